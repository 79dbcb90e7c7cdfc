"""What can be trained by name: the DNC and the networks that it is compared with."""
