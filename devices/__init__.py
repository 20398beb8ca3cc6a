"""Classic ophyd devices on EPICS PVs, and the potentiostat's own IOC.

Importing the package imports nothing: ophyd reads the EPICS environment when it is
first imported, so whoever sets that environment must come before.
"""
