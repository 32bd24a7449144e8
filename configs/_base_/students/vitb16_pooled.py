"""FD's ViT-B/16 as classifiers use it: a bias per block, pooled patches."""
_base_ = 'vitb16.py'

student = dict(
    use_rel_pos_bias=True,
    use_shared_rel_pos_bias=False,
    final_norm=False,
    out_type='avg_featmap')
