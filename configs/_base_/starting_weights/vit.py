"""What tasks change in a ViT when they start from it."""
# Each block of a student trains its own copy of the bias that FD shared
bias_per_block = dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
# Classifiers read the mean of the patches before the last norm
pooled = dict(final_norm=False, out_type='avg_featmap')
