"""Three scales, flipped too, for --tta: mmdet's file, with masks merged."""
_base_ = (f'{__import__("mmdet").__path__[0]}/.mim/configs/retinanet/'
          'retinanet_tta.py')

tta_model = dict(type='mmfd.InstanceTTAModel')
