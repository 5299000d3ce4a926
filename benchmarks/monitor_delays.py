"""False alarms of `CalibrationMonitor` in calm streams, and how soon it finds three kinds of drift.

Three classes; the probabilities are exact until something changes. "Overconfident": the log-odds
are multiplied by 1.5. "Prior shift": the shares .5, .3, .2 of the classes become .2, .3, .5.
"Weaker model": the texts tell less, and the calibration is still that of the better model. "Wrong
answers": 8 of 100 labels are others, and nothing is to be seen in the probabilities. All rows have
labels, and all settings but those named are the defaults.

The contrast is what dashboards do: the ECE of the last 200 rows (ten bins of equal mass), looked at
every ten rows, against 2 %; and against the threshold that raises as few false alarms in exactly
calibrated streams as an average run length of 10,000 rows. The detectors with tolerance 0 are its
equals; with the default tolerance, they raise fewer.

Run: ``python benchmarks/monitor_delays.py`` (minutes on one core; ``--quick`` for a rough table).
"""

from __future__ import annotations

import argparse

import numpy as np

from skllm_calib.metrics import expected_calibration_error
from skllm_calib.operations.monitor import CalibrationMonitor

PRIOR, SHIFTED = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
SIGNAL = 1.85  # accuracy .85
CHANGE, AFTER, WINDOW, LOOK = 1000, 4000, 200, 10
DETECTORS = ("cusum", "e_detector", "confidences", "predicted_labels")
LABELLED = DETECTORS[:2]
STRICT = tuple(f"{kind}, tolerance 0" for kind in LABELLED)
DRIFTS = ("overconfident", "prior shift", "weaker model", "wrong answers")

Rows = tuple[np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, n_rows: int, drift: str = "none") -> Rows:
    y = rng.choice(3, n_rows, p=SHIFTED if drift == "prior shift" else PRIOR)
    signal = SIGNAL * (0.75 if drift == "weaker model" else 1.0)
    seen = rng.normal(signal * np.eye(3)[y])
    score = np.log(PRIOR) + SIGNAL * seen
    if drift == "overconfident":
        score *= 1.5
    proba = np.exp(score - score.max(axis=1, keepdims=True))
    if drift == "wrong answers":
        y = np.where(rng.random(n_rows) < 0.08, (y + rng.integers(1, 3, n_rows)) % 3, y)
    return proba / proba.sum(axis=1, keepdims=True), y


def rolling_ece(rows: Rows) -> dict[int, float]:
    """ECE of the last rows, by the number of the latest."""
    proba, y = rows
    return {
        end - 1: expected_calibration_error(
            y[end - WINDOW : end],
            proba[end - WINDOW : end],
            n_bins=10,
            strategy="quantile",
            labels=[0, 1, 2],
        )
        for end in range(WINDOW, len(y) + 1, LOOK)
    }


def first_above(figures: dict[int, float], threshold: float) -> int | None:
    return next((row for row, figure in figures.items() if figure > threshold), None)


def calm_table(rng: np.random.Generator, n_streams: int, n_rows: int, run_length: int) -> None:
    settings = {
        "exactly calibrated": (0.0, 0.0),
        "a gap of one point": (0.01, 0.01),
    }
    print(f"{n_streams} calm streams of {n_rows:,} rows; promised: {run_length:,} rows or more.\n")
    print("| stream | detector | streams with an alarm | mean rows between alarms |")
    print("|---|---|---|---|")
    for name, (gap, tolerance) in settings.items():
        monitor = CalibrationMonitor(
            average_run_length=run_length, unlabelled_run_length=run_length, tolerance=tolerance
        )
        found: dict[str, list[int]] = {kind: [] for kind in DETECTORS}
        for _ in range(n_streams):
            monitor.fit(
                None, draw(rng, 1000)[0]
            )  # the promise is about reference and stream together
            proba, y = draw(rng, n_rows)
            wrong = rng.random(n_rows) < gap / 0.85  # spoil right ones: accuracy falls by the gap
            y = np.where(wrong & (proba.argmax(axis=1) == y), (y + 1) % 3, y)
            for alarm in monitor.update(y, proba):
                found[alarm.kind].append(alarm.row + 1)
        for kind, rows in found.items():
            watched = sum(rows) + (n_streams - len(rows)) * n_rows
            mean = f"{watched / len(rows):,.0f}" if rows else f"more than {watched:,}"
            print(f"| {name} | {kind} | {len(rows) / n_streams:.2f} | {mean} |", flush=True)
    firsts = [first_above(rolling_ece(draw(rng, n_rows)), 0.02) for _ in range(min(n_streams, 30))]
    rows_until = [row + 1 for row in firsts if row is not None]
    print(
        f"| exactly calibrated | rolling ECE > 2 % | {len(rows_until) / len(firsts):.2f} | "
        f"{np.mean(rows_until):,.0f} |\n"
    )


def delay_table(rng: np.random.Generator, n_streams: int) -> None:
    # One threshold of the rolling ECE with the same false alarms: e^(-length/10,000) stay calm.
    n_rows = CHANGE + AFTER
    highest = [max(rolling_ece(draw(rng, n_rows)).values()) for _ in range(n_streams)]
    tuned = float(np.quantile(highest, np.exp(-n_rows / 10_000)))
    rules = (*DETECTORS, *STRICT, "rolling ECE > 2 %", f"rolling ECE > {tuned:.1%}")
    print(
        f"{n_streams} streams, change at row {CHANGE:,}, {AFTER:,} rows after it."
        " Cells: median rows to the alarm after the change (share found); streams with an alarm"
        " before the change are left out, their share is in the last row.\n"
    )
    print(f"| drift | confidence less accuracy | {' | '.join(rules)} |")
    print("|---|---|" + "---|" * len(rules))
    early = dict.fromkeys(rules, 0)
    for drift in DRIFTS:
        delays: dict[str, list[float]] = {rule: [] for rule in rules}
        for _ in range(n_streams):
            reference = draw(rng, 1000)[0]
            monitor = CalibrationMonitor().fit(None, reference)
            strict = CalibrationMonitor(detectors=LABELLED, tolerance=0, drift=0.05).fit(
                None, reference
            )
            before, after = draw(rng, CHANGE), draw(rng, AFTER, drift)
            rows = np.concatenate([before[0], after[0]]), np.concatenate([before[1], after[1]])
            first: dict[str, int | None] = {a.kind: a.row for a in monitor.update(*rows[::-1])}
            first |= {f"{a.kind}, tolerance 0": a.row for a in strict.update(*rows[::-1])}
            figures = rolling_ece(rows)
            first[rules[-2]] = first_above(figures, 0.02)
            first[rules[-1]] = first_above(figures, tuned)
            for rule in rules:
                row = first.get(rule)
                if row is not None and row < CHANGE:
                    early[rule] += 1
                else:
                    delays[rule].append(np.inf if row is None else row - CHANGE + 1)
        cells = [
            f"{np.median(d):,.0f} ({np.isfinite(d).mean():.2f})" if d else "-"
            for d in delays.values()
        ]
        proba, y = draw(rng, 100_000, drift)
        gap = float((proba.max(axis=1) - (proba.argmax(axis=1) == y)).mean())
        line = f"| {drift} | {gap:+.3f} | {' | '.join(cells)} |"
        print(line.replace("inf", "-"), flush=True)
    total = n_streams * len(DRIFTS)
    print(f"| alarm before the change | | {' | '.join(f'{early[r] / total:.2f}' for r in rules)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-streams", type=int, default=100, help="streams per cell")
    parser.add_argument("--quick", action="store_true", help="20 streams per cell")
    parser.add_argument("--random-state", type=int, default=0)
    args = parser.parse_args()
    n_streams = 20 if args.quick else args.n_streams
    rng = np.random.default_rng(args.random_state)
    calm_table(rng, 2 * n_streams, 4000, 2000)
    delay_table(rng, n_streams)


if __name__ == "__main__":
    main()
