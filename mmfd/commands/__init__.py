"""What can be typed after `mmfd`?"""
