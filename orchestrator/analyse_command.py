"""``insitu-ct analyse SCAN.nxs --out DIR``: reconstruct and measure one scan.

Writes ``DIR/tomogram.h5`` and ``DIR/analysis.json``. A folder that holds either is
refused: results are never overwritten.
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from orchestrator.apart import CrashedError, run_apart
from orchestrator.errors import ConfigurationError, RefusedError
from orchestrator.results import write_text


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("analyse", help="reconstruct and measure one scan")
    parser.add_argument("scan", type=Path, help="an NXtomo file")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where results go"
    )
    parser.add_argument(
        "--reconstruct-only", action="store_true", help="measure nothing"
    )
    parser.add_argument(
        "--engine", metavar="NAME", help="who reconstructs: gridrec or tomopy"
    )
    parser.add_argument(
        "--pixel-size-um",
        type=float,
        metavar="X",
        help="at the sample, where the file does not tell it",
    )
    parser.add_argument(
        "--rotation-axis-px",
        type=float,
        metavar="X",
        help="column of the axis; found from the projections if not given",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reconstruct, measure and write what came out."""
    if args.pixel_size_um is not None and not 0 < args.pixel_size_um < 1000:
        raise ConfigurationError(
            f"--pixel-size-um is {args.pixel_size_um:g}; it must be between 0 and 1000"
        )
    answer_file = args.out / "analysis.json"
    for path in (answer_file, args.out / "tomogram.h5"):
        if path.exists():
            raise RefusedError(f"{path} exists; give another folder with --out")
    if args.out.exists() and not args.out.is_dir():
        raise RefusedError(f"{args.out} is a file; give a folder with --out")

    from analysis.engines import EngineUnavailableError
    from analysis.pipeline import reconstruct_nxtomo
    from analysis.settings import AnalysisSettings, ReconstructionSettings

    reconstruction = ReconstructionSettings()
    if args.rotation_axis_px is not None:
        reconstruction = reconstruction.model_copy(
            update={"rotation_axis_px": args.rotation_axis_px}
        )
    if args.engine is not None:
        reconstruction = _with_engine(reconstruction, args.engine)

    try:
        run_apart(_look_into, args.scan)
        answer = reconstruct_nxtomo(
            args.scan,
            args.out,
            AnalysisSettings(reconstruction=reconstruction),
            measure=not args.reconstruct_only,
            pixel_size_um=args.pixel_size_um,
        )
    except EngineUnavailableError as error:
        raise ConfigurationError(str(error)) from error
    except CrashedError as error:
        raise ConfigurationError(
            f"{args.scan}: damaged: the process that opened it crashed ({error}); take "
            "a sound copy of the file"
        ) from error
    write_text(answer_file, json.dumps(answer, indent=2, default=_plain) + "\n")
    print(f"rotation axis: {answer['rotation_axis_px']:.2f} px")
    print(f"tomogram: {answer['tomogram_file']}")
    if "reason" in answer:
        print(f"not measured: {answer['reason']}")
    print(f"analysis: {answer_file}")
    return 0


def _look_into(path: Path) -> None:
    """Read what describes the scan and a frame of each kind."""
    from analysis.nxtomo_reader import NXtomoScan

    with NXtomoScan(path) as scan:
        for indices in (scan.darks, scan.flats, scan.projections):
            for _ in scan.read(indices[:1], slice(None)):
                pass


def _with_engine(settings: Any, name: str) -> Any:
    known = get_args(type(settings).model_fields["engine"].annotation)
    if name not in known:
        raise ConfigurationError(
            f"--engine is '{name}'; it must be one of {', '.join(known)}"
        )
    return settings.model_copy(update={"engine": name})


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
