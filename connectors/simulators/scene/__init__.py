"""The parts of the simulated site camera: what is seen, from where, in what light."""
