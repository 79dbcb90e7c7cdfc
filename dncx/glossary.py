"""The symbols of the paper, their names in dncx, and their shapes.

Sizes (an axis is written with its letter in every signature):

    N  memory_size       slots (rows) of the memory
    W  word_size         numbers in a slot
    R  num_read_heads    read heads
    M  num_write_heads   write heads (the paper has one)
    H  hidden_size       features of the controller's output

Symbols (Graves et al., Nature 538:471, 2016, Methods; t is the step):

    x_t         inputs                  y_t         outputs
    χ_t         controller_inputs       h_t         controller_output
    ξ_t         Interface               M_t         memory
    k^r, k^w    read_keys, write_keys   β^r, β^w    read_strengths, write_strengths
    e_t, v_t    erase_vectors, write_vectors
    f^i_t       free_gate               g^a, g^w    allocation_gate, write_gate
    π^i_t       read_mode               ψ_t         retention
    u_t         usage                   a_t         allocation_weights
    c^w, c^r    write_content_weights, read_content_weights
    m^w, m^r    write_masks, read_masks (DNC-M: Csordás and Schmidhuber, arXiv:1904.10278)
    s_f, s_b    forward_sharpness, backward_sharpness (DNC-S: the same)
    w^w, w^r    write_weights, read_weights
    p_t         precedence_weights      L_t         link
    f_t, b_t    forward_weights, backward_weights
    r_t         read_words (DNCState.access_output)

Every equation is written for one example; the cell adds the batch axes with `jax.vmap`.
A "weighting" is a vector over slots, non-negative, with a sum of at most 1.
"""

from jaxtyping import Array, Float

Memory = Float[Array, "N W"]
Usage = Float[Array, " N"]
ReadWeights = Float[Array, "R N"]
WriteWeights = Float[Array, "M N"]
Link = Float[Array, "M N N"]  # link[m, i, j]: how far slot i was written right after slot j
DirectionalWeights = Float[Array, "R M N"]
ReadWords = Float[Array, "R W"]
Number = float | int  # for settings: a run-time type checker does not accept an int as a float
