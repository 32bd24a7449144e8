"""The same numbers in less time or memory.

Other rooms use these files, and need not know how they do it:

    blocks          the transformer blocks that students are built of
    attention       attention with a bias, for grids of any size
    frozen          the forward of a frozen network: a teacher's
    compile_blocks  what `compile` in a config does
    unfold          patches that Swin merges
"""
