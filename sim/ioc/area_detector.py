"""areaDetector PVs, one for each that ophyd's device classes name.

The names come from the classes that will talk to them, so that every signal of the
installed ophyd finds its PV; the tables below only say what a PV is.
"""

from collections.abc import Iterator
from typing import Any

from caproto import ChannelInteger
from caproto.server import PVGroup, pvproperty
from ophyd.areadetector.base import ADBase, EpicsSignalWithRBV
from ophyd.areadetector.paths import EpicsPathSignal
from ophyd.signal import EpicsSignalBase

from sim.ioc.channel_types import CHAR, ENUM, STRING

_NO_YES = ["No", "Yes"]
_DISABLE_ENABLE = ["Disable", "Enable"]
_OFF_ON = ["Off", "On"]

# The driver leaves index 4 of the trigger modes empty.
TRIGGER_MODES = ["Auto", "Soft", "Ext + Soft", "Ext Pulse", "", "Ext Only"]

_ENUMS: dict[str, list[str]] = {
    "Acquire": ["Done", "Acquire"],
    "ImageMode": ["Single", "Multiple", "Continuous"],
    "TriggerMode": TRIGGER_MODES,
    "DetectorState": [
        "Idle", "Acquire", "Readout", "Correct", "Saving", "Aborting", "Error",
        "Waiting", "Initializing", "Disconnected", "Aborted",
    ],
    "ArrayCallbacks": _DISABLE_ENABLE,
    "EnableCallbacks": _DISABLE_ENABLE,
    "BlockingCallbacks": _NO_YES,
    "FileWriteMode": ["Single", "Capture", "Stream"],
    "Capture": ["Done", "Capture"],
    "WriteFile": ["Done", "Write"],
    "ReadFile": ["Done", "Read"],
    "AutoSave": _NO_YES,
    "AutoIncrement": _NO_YES,
    "LazyOpen": _NO_YES,
    "SWMRMode": _OFF_ON,
    "SWMRActive": ["Off", "Active"],
    "SWMRSupported": ["Not Supported", "Supported"],
    "WriteStatus": ["Write OK", "Write error"],
    "FilePathExists": _NO_YES,
    "StoreAttr": _NO_YES,
    "StorePerform": _NO_YES,
    "DimAttDatasets": _NO_YES,
    "PositionMode": _OFF_ON,
    "FlushNow": ["Done", "Flush"],
    "XMLValid": _NO_YES,
    "DataType": [
        "Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Float32", "Float64",
    ],
    "ColorMode": ["Mono", "Bayer", "RGB1"],
    "Compression": ["None", "N-bit", "szip", "zlib", "Blosc", "BSLZ4"],
    "BloscShuffle": ["None", "ByteShuffle", "BitShuffle"],
    "BloscCompressor": ["blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"],
    "FrameType": ["Normal", "Background", "FlatField"],
    "ShutterMode": ["None", "EPICS", "Detector"],
    "ShutterControl": ["Close", "Open"],
    "DeleteDriverFile": _NO_YES,
    "ARM_MODE": ["Disarmed", "Armed"],
    "ADC_MODE": ["x", "One ADC", "Two ADC"],
    "STORAGE_MODE": ["Recorder", "FIFO buffer"],
    "RECORDER_MODE": ["Sequence", "Ring buffer"],
    "ACQUIRE_MODE": ["Auto", "Ext. enable", "Ext. trigger"],
    "CAMERA_SETUP": ["", "Rolling Shutter", "Global Shutter", "", "Global Reset"],
    "TIMESTAMP_MODE": ["None", "BCD", "BCD+ASCII", "ASCII"],
    "BIT_ALIGNMENT": ["MSB", "LSB"],
    "PIX_RATE": ["Unset", "95333333Hz", "286000000Hz"],
}  # fmt: skip
_FLOATS = {
    "AcquireTime", "AcquirePeriod", "Gain", "Temperature", "TemperatureActual",
    "DELAY_TIME", "ELEC_TEMP", "POWER_TEMP", "ArrayRate", "TimeRemaining",
    "MinCallbackTime", "RunTime", "IOSpeed", "TimeStamp", "ShutterOpenDelay",
    "ShutterCloseDelay",
}  # fmt: skip
# Waveforms of characters: longer than the 39 an EPICS string holds.
_TEXTS = {
    "FilePath", "FileName", "FileTemplate", "FullFileName", "NDAttributesFile",
    "XMLFileName", "XMLErrorMsg", "StatusMessage", "WriteMessage", "TempSuffix",
    "StringFromServer", "StringToServer",
}  # fmt: skip
_STRINGS = {
    "PortName", "PluginType", "NDArrayPort", "Manufacturer", "Model",
    "ADCoreVersion", "DriverVersion", "AsynIO", "SDKVersion", "FirmwareVersion",
    "SerialNumber",
}  # fmt: skip


class AreaDetectorGroup(PVGroup):
    """PVs of one areaDetector port, addressed by their names.

    A set point's value is copied to its ``_RBV`` unless a handler does it.
    """

    names: dict[str, str]

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        for name in self.names:
            if f"{name}_RBV" in self.names:
                self.channel(name).putter = self._mirror
        for name in list(self.names):
            # ophyd asks this field which sign the pixels have.
            if name == "DataType_RBV":
                field: Any = ChannelInteger(value=0)
                self.pvdb[f"{prefix}{name}.DISA"] = field

    def channel(self, name: str) -> Any:
        """Return the channel of the PV `name`, given without the prefix."""
        return getattr(self, self.names[name])

    def value(self, name: str) -> Any:
        """Return the value of a PV; text as str."""
        value = self.channel(name).value
        if isinstance(value, (bytes, bytearray)):
            return bytes(value).split(b"\0", 1)[0].decode()
        return value

    async def post(self, name: str, value: Any) -> None:
        """Write a PV without calling its handler; skip what does not change."""
        if self.value(name) != value:
            await self.channel(name).write(value, verify_value=False)

    async def _mirror(self, instance: Any, value: Any) -> Any:
        name = instance.pvname.removeprefix(self.prefix)
        await self.post(f"{name}_RBV", value)
        return value


def area_detector_group(
    device_class: type[ADBase], values: dict[str, Any]
) -> type[AreaDetectorGroup]:
    """Return a group that serves every PV of an ophyd areaDetector class.

    Parameters
    ----------
    device_class : type
        Class of ophyd.areadetector, such as ``PcoDetectorCam``.
    values : dict
        First values by name without ``_RBV``; they hold for the readback too.
    """
    namespace: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name in _pv_names(device_class):
        if name in names or "." in name:
            continue
        attribute = "pv_" + name.replace(":", "_")
        names[name] = attribute
        base = name.removesuffix("_RBV")
        namespace[attribute] = _property(name, values.get(name, values.get(base)))
    namespace["names"] = names
    return type(f"{device_class.__name__}Group", (AreaDetectorGroup,), namespace)


def _pv_names(device_class: type[ADBase]) -> Iterator[str]:
    for walked in device_class.walk_components():
        signal = walked.item.cls
        suffix = walked.item.suffix
        if not isinstance(suffix, str) or not issubclass(signal, EpicsSignalBase):
            continue
        yield suffix
        if issubclass(signal, (EpicsSignalWithRBV, EpicsPathSignal)):
            yield f"{suffix}_RBV"


def _property(name: str, value: Any) -> Any:
    base = name.removesuffix("_RBV")
    if base in _ENUMS:
        texts = _ENUMS[base]
        return pvproperty(
            value=texts[0] if value is None else value,
            dtype=ENUM,
            enum_strings=texts,
            name=name,
        )
    if base in _TEXTS:
        return pvproperty(
            value=value or "",
            dtype=CHAR,
            max_length=1024,
            string_encoding="utf-8",
            report_as_string=False,
            name=name,
        )
    if base in _STRINGS:
        return pvproperty(value=value or "", dtype=STRING, name=name)
    if base in _FLOATS:
        return pvproperty(value=float(value or 0.0), name=name, precision=6)
    return pvproperty(value=int(value or 0), name=name)
