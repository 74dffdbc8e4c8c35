"""Tools for those who build with fastnn: gradients checked, kernels timed and compiled ahead, what the machine is."""
