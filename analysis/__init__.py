"""Arrays and HDF5 in, arrays and frozen results out: no bluesky, no ophyd."""
