"""Cases of the tasks' evaluation: a task, who is scanned with what, and the people that nobody trains on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from allpet.scan.dataset import Dataset


@dataclass(frozen=True)
class Case:
    """One line of the tables.

    Parameters
    ----------
    task, tracer, region : as in ``allpet simulate``. options : more of it (dose_fraction, to, delay_minutes).
    static : dynamic frames are left out.
    """

    task: str
    tracer: str
    region: str
    options: dict[str, Any] = field(default_factory=dict)
    static: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        words = {
            "low-dose": lambda: f"low-dose 1/{round(1 / self.options['dose_fraction'])}",
            "delayed": lambda: f"delayed {self.options['delay_minutes']:g} min",
            "convert": lambda: f"convert to {self.options['to']}",
            "separate": lambda: "separate, static" if self.static else "separate, 6 frames",
        }
        return f"{words.get(self.task, lambda: self.task)()}: {self.tracer} {self.region}"

    def simulate(self, n: int, split: str = "test", seed: int = 11, shape: tuple[int, int] = (128, 128)) -> Dataset:
        """One slice each of n people, 500,000 prompts at full dose; `shape`: views and bins."""
        from allpet.scan.simulate import simulate

        data = simulate(
            n,
            tracer=self.tracer,
            region=self.region,
            task=self.task,
            split=split,
            seed=seed,
            slices_per_subject=1,
            views=shape[0],
            bins=shape[1],
            **self.options,
        )
        return data.without_frames() if self.static else data


CASES = (
    *(
        Case("low-dose", tracer, region, {"dose_fraction": 1 / share})
        for tracer, region in (("FDG", "brain"), ("FDG", "chest"), ("FDG", "abdomen"), ("PSMA", "pelvis"))
        for share in (4, 20, 100)
    ),
    *(Case("attenuation", "FDG", region) for region in ("brain", "chest", "abdomen")),
    Case("delayed", "FDG", "abdomen", {"delay_minutes": 60.0}),
    Case("delayed", "PSMA", "abdomen", {"delay_minutes": 120.0}),
    Case("convert", "FDG", "abdomen", {"to": "PSMA"}),
    Case("convert", "PSMA", "chest", {"to": "FDG"}),
    Case("convert", "FDG", "brain", {"to": "DOPA"}),
    *(
        Case("separate", tracers, region, static=static)
        for tracers, region in (("FDG + PSMA", "abdomen"), ("FDG + DOPA", "brain"))
        for static in (False, True)
    ),
)
