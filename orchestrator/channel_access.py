"""The EPICS environment, set before ophyd or pyepics is imported for the first time.

Loopback only unless the experiment's file says otherwise: what the shell happens to
hold in ``EPICS_CA_*`` does not decide which hardware is moved.
"""

import os
import sys
from collections.abc import Mapping

from orchestrator.config import ChannelAccessSection

ARRAY_BYTES_MAX = 20_000_000


def environment(settings: ChannelAccessSection) -> dict[str, str]:
    """Return the variables that Channel Access clients read."""
    variables = {
        "EPICS_CA_ADDR_LIST": " ".join(settings.address_list),
        "EPICS_CA_AUTO_ADDR_LIST": "YES" if settings.auto_address_list else "NO",
        "EPICS_CA_MAX_ARRAY_BYTES": str(ARRAY_BYTES_MAX),
    }
    if settings.server_port is not None:
        variables["EPICS_CA_SERVER_PORT"] = str(settings.server_port)
    return variables


def set_environment(variables: Mapping[str, str]) -> None:
    """Put the variables into this process's environment.

    Raises
    ------
    RuntimeError
        ophyd or pyepics was imported already and has read the old ones.
    """
    loaded = [name for name in ("ophyd", "epics") if name in sys.modules]
    if loaded:
        raise RuntimeError(
            f"{' and '.join(loaded)} imported before the EPICS environment was set"
        )
    for name in [name for name in os.environ if name.startswith("EPICS_CA_")]:
        del os.environ[name]
    os.environ.update(variables)
