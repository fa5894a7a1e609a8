"""`AllPET`: the trained model, as a person uses it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics.region import Uptake
from allpet.model.denoiser import Denoiser
from allpet.model.familiar import Familiar
from allpet.model.focus import Focus
from allpet.model.latent import FirstStage
from allpet.model.prompt import TRACERS, Prompt, parse_prompt
from allpet.model.restorer import Restorer
from allpet.model.sealed import config_text, read_config, read_weights, weights_bytes
from allpet.model.translator import Translator
from allpet.scan.core import Image, Scan

CONFIG = "config.json"
KINDS: dict[str, Any] = {
    "first_stage": FirstStage,
    "denoiser": Denoiser,
    "restorer": Restorer,
    "translator": Translator,
    "familiar": Familiar,
    "focus": Focus,
}
"""Parts of a model by name; each is saved as ``NAME.safetensors``."""
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "base"


RECORDS = ("trained", "data", "parts", "base")
"""Keys of a config that results do not depend on, or that the weights tell as well."""


LARGEST = 1024
"""No width or size of a part is larger: a damaged config must not ask for more memory than there is."""


DAMAGE = (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError)
"""What reading a folder that is no model may end in."""


def _check_sizes(name: str, options: dict[str, Any]) -> None:
    for key, value in options.items():
        for size in value if isinstance(value, tuple) else (value,):
            if isinstance(size, int | float) and not 1 <= size <= LARGEST:
                raise ValueError(f"{key} of {name} is {size}; it must be 1 to {LARGEST}")


def adapter_file(task: str) -> str:
    """Name of a task's adapter in a model folder."""
    return f"adapter-{task}.safetensors"


@dataclass(frozen=True)
class RegionResult:
    """A region before and after a task, in `unit`.

    Parameters
    ----------
    name : the region's. before : in the quick image of the scan. without, after : in the task's image without and with
    attention. std : standard deviation of ``after.mean``.
    """

    name: str
    before: Uptake
    without: Uptake
    after: Uptake
    std: float
    unit: str


@dataclass
class Result:
    """What a task returns.

    Parameters
    ----------
    expected : the result. std : its standard deviation, None without samples. notes : what the user should know about
        how it came about. extras : what goes with it, by the suffix of its file. strangeness : of every plane, see
        :class:`allpet.model.familiar.Verdict`; None where the model does not know. regions : what became of the
        regions that were pointed at, in their order.
    """

    expected: Scan
    std: Scan | None
    notes: tuple[str, ...] = ()
    extras: dict[str, Scan | Image] = field(default_factory=dict)
    strangeness: torch.Tensor | None = None
    regions: tuple[RegionResult, ...] = ()


class AllPET:
    """The foundation model: first stage, latent denoiser, restorer, translator, what is familiar to it, and the second
    look at regions.

    Parameters
    ----------
    first_stage, denoiser, restorer, translator, familiar, focus : its parts; a part that is not trained yet is None.
    config : words it was trained on, fields of view, amplitudes, calibration of deviations, training record.
    """

    def __init__(
        self,
        config: dict[str, Any],
        first_stage: FirstStage | None = None,
        denoiser: Denoiser | None = None,
        restorer: Restorer | None = None,
        translator: Translator | None = None,
        familiar: Familiar | None = None,
        focus: Focus | None = None,
    ) -> None:
        self.config, self.first_stage, self.denoiser, self.restorer = config, first_stage, denoiser, restorer
        self.translator, self.familiar, self.focus = translator, familiar, focus
        self.adapted: dict[str, Translator] = {}
        self.shipped = False
        self.source = "memory"
        self.unhashed: tuple[str, ...] = ()
        for module in (first_stage, denoiser, restorer, translator, familiar, focus):
            if module is not None:
                module.eval().requires_grad_(False)

    # -- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None) -> AllPET:
        """Load a model folder (default: the weights in the package); safetensors only, no network.

        Every file is compared with the SHA-256 it carries; names of files without one are in `unhashed`.

        Raises
        ------
        AllpetError : no such folder, no ``config.json``, a file that was changed, or weights that do not fit it.
        """
        from safetensors import SafetensorError

        path = SHIPPED if folder is None else Path(folder)
        if not (path / CONFIG).is_file():
            raise AllpetError(f"{path}: holds no model ('{CONFIG}' is missing); give a run or model folder")
        try:
            config, hashed = read_config(path / CONFIG)
            bare = [] if hashed else [CONFIG]
            if "adapters" in config:
                return cls._adapted(path, config, bare)
            built: dict[str, Any] = {}
            for name, options in config["parts"].items():
                options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
                _check_sizes(name, options)
                built[name] = KINDS[name](**options)
                known = read_weights(path / f"{name}.safetensors")
                bare += [] if known.hashed else [f"{name}.safetensors"]
                built[name].load_state_dict({k: v.float() for k, v in known.tensors.items()})
        except AllpetError:
            raise
        except (*DAMAGE, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise AllpetError(f"{path}: is not a model of this version ({reason}); train it again") from None
        model = cls(config, **built)
        model.source, model.shipped, model.unhashed = str(path), path == SHIPPED, tuple(bare)
        return model

    @classmethod
    def _adapted(cls, path: Path, config: dict[str, Any], bare: list[str]) -> AllPET:
        """A base with the adapters in a folder."""
        from allpet.model.adapter import with_adapter

        where, wanted = config["base"]["path"], config["base"]["hash"]
        model = cls.from_pretrained(None if where == "shipped" else where)
        if model.weights_hash != wanted:
            raise AllpetError(
                f"{path}: was adapted from a base {wanted}, but {where} is {model.weights_hash}; adapt again"
            )
        for task, facts in config["adapters"].items():
            known = read_weights(path / adapter_file(task))
            bare = [*bare, *([] if known.hashed else [adapter_file(task)])]
            model.adapted[task] = with_adapter(model.need("translator"), known.tensors)
            factors = model.config.setdefault("calibration", {}).setdefault(task, {})
            factors.update(facts.get("calibration", {}))
            factors.pop("by_words", None)  # of the base's deviations
        model.config["base"] = config["base"]
        model.source, model.shipped, model.unhashed = str(path), False, (*model.unhashed, *bare)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and float16 safetensors with their hashes; every file is replaced in one step.

        Raises
        ------
        AllpetError : a model with adapters, which :func:`allpet.train.adapt.adapt` writes.
        """
        from allpet.io.files import replacing

        path = Path(folder)
        if self.adapted or "base" in self.config:
            raise AllpetError(f"{path}: a model with adapters is not written as a whole; give its base")
        path.mkdir(parents=True, exist_ok=True)
        config = {**self.config, "parts": {}}
        for name in KINDS:
            module = getattr(self, name)
            if module is None:
                continue
            config["parts"][name] = module.config
            exact = name == "first_stage"  # a few kB: kept in float32
            state = {k: v.cpu().contiguous() for k, v in module.state_dict().items()}
            if not exact:
                state = {k: v.half() for k, v in state.items()}
            with replacing(path / f"{name}.safetensors") as (part,):
                part.write_bytes(weights_bytes(state))
        with replacing(path / CONFIG) as (part,):
            part.write_text(config_text(config), encoding="utf-8")

    @property
    def base_hash(self) -> str:
        """The :attr:`weights_hash` of the model without adapters: what an adapter fits."""
        return str(self.config["base"]["hash"]) if "base" in self.config else self.weights_hash

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all that results depend on: the weights, and what the config says of
        amplitudes, fields of view, emphasis and factors on deviations."""
        said = {name: value for name, value in self.config.items() if name not in RECORDS}
        return self._hash(json.dumps(said, sort_keys=True).encode())

    @property
    def weights_hash(self) -> str:
        """The same of the weights alone."""
        return self._hash(b"")

    def _hash(self, said: bytes) -> str:
        import hashlib

        digest = hashlib.sha256(said)
        modules = {name: getattr(self, name) for name in KINDS} | self.adapted
        for name, module in modules.items():
            for key, value in sorted(module.state_dict().items()) if module is not None else ():
                digest.update(f"{name}.{key}".encode() + value.half().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def beam(self) -> ParallelBeam:
        """The grid the model works on, with pitch 1."""
        return ParallelBeam(self.config["views"], self.config["bins"], 1.0)

    @property
    def parameters(self) -> int:
        """Weights of the denoiser, the network behind :meth:`generate`."""
        return int(self.need("denoiser").parameters_count)

    def evaluations(self, sampler: str | None = None, steps: int | None = None) -> int:
        """Network evaluations behind one sample, without guidance."""
        from allpet.diffusion import DEFAULT, sampler_of

        chosen = sampler_of(sampler or DEFAULT)
        return chosen.evaluations(steps or chosen.steps)

    def to(self, device: torch.device | str) -> AllPET:
        """Move the parts to a device."""
        for name in KINDS:
            if getattr(self, name) is not None:
                getattr(self, name).to(device)
        for network in self.adapted.values():
            network.to(device)
        return self

    @property
    def tracers(self) -> tuple[str, ...]:
        """Tracers that it was trained on."""
        return tuple(self.config.get("tracers", TRACERS))

    def parse(self, text: str) -> Prompt:
        """Read a prompt in the words this model was trained on."""
        return parse_prompt(text, tuple(self.config["tracers"]), tuple(self.config["regions"]))

    def need(self, name: str) -> Any:
        """A part of the model.

        Raises
        ------
        AllpetError : it is not trained yet.
        """
        part = getattr(self, name)
        if part is None:
            recipe = {"restorer": "low-dose", "translator": "tasks", "focus": "attention"}.get(name, "base")
            raise AllpetError(f"{self.source}: has no {name} yet; train it with --recipe {recipe}")
        return part

    def translator_of(self, task: str) -> Translator:
        """The translator for a task: the adapted one where there is one."""
        found: Translator = self.adapted.get(task) or self.need("translator")
        return found

    # -- what it does ----------------------------------------------------------------------------------------------

    def generate(self, prompt: str | Prompt, n: int = 1, **options: Any) -> Scan:
        """Draw sinograms for a prompt such as ``"18F-FDG brain"``; see :func:`allpet.model.generate.generate`."""
        from allpet.model.generate import generate

        return generate(self, prompt, n, **options)

    def generate_parts(self, prompt: str | Prompt, n: int = 1, **options: Any) -> Any:
        """Draw sinograms and their two parts; see :func:`allpet.model.generate.generate_parts`."""
        from allpet.model.generate import generate_parts

        return generate_parts(self, prompt, n, **options)

    def apply(self, task: str, scan: Scan, **options: Any) -> Result:
        """Run a task on a scan; see the functions in :mod:`allpet.task` for its options."""
        from allpet.task import run

        return run(task, self, scan, **options)
