"""The pages of the benches: titles, captions, panels and the figures asked of each."""

from __future__ import annotations

from testbed.bench.pages import Goal, Page, Panel

__all__ = ["PAGES", "page"]

_FROM_0_DB = {"snr_db": (0.0, 30.0)}

PAGES: dict[str, Page] = {
    "r-a": Page(
        "R-A: time offset from both directions of a link",
        "256 subcarriers of 120 kHz, 64 symbols of 8.92 µs, five paths of complex Gaussian gains scaled to unit "
        "power, 0.1 to 1.5 µs, ±4 kHz; time offset ±100 ns, CFO ±3 kHz (docs/methods/reciprocity.md). Carrier "
        "chosen: 28 GHz. Bound: that of the matched product, √(CRB·(1 + 1/(2·SNR))); the grid's deviation for "
        "`spectral-cc`.",
        (
            Panel("to_rmse"),
            Panel("to_rmse", methods=("reciprocity-mle", "reciprocity-mp"), ratio=True, limit=1.08),
            Panel("cfo_rmse"),
        ),
        goals=(
            Goal("MLE, SNR ≥ 0 dB", "≤ 1.08 × bound", "to_rmse", "reciprocity-mle", _FROM_0_DB, most=1.08),
            Goal("matrix pencil, 0 to 30 dB", "≤ 1.25 × bound", "to_rmse", "reciprocity-mp", _FROM_0_DB, most=1.25),
            Goal(
                "CC on the grid, 20 dB", "0.144/B ± 5 %", "to_rmse", "spectral-cc", {"snr_db": 20.0},
                most=1.05, least=0.95,
            ),
            Goal(
                "MP 500 times better than CC on the grid at 20 dB", "≤ 9.38 ps (0.144/B over 500)", "to_rmse",
                "reciprocity-mp", {"snr_db": 20.0}, of="value", most=0.144 / 30.72e6 / 500, scale=1e12, unit=" ps",
            ),
        ),
    ),
    "r-a-cells": Page(
        "R-A: wrong cells of the likelihood's search",
        "Reference R-A, `reciprocity-mle` alone, 800 draws at each SNR. Lost is an error of half a lobe of the "
        "matched product, 16.3 ns.",
        (Panel("to_rmse"), Panel("to_rmse", ratio=True, limit=1.08)),
        goals=(
            Goal("no trial lost to a wrong cell", "0 in ≥ 3,000", "outlier_rate", of="value", most=0.0),
            Goal("MLE, SNR ≥ 0 dB", "≤ 1.08 × bound", "to_rmse", "reciprocity-mle", _FROM_0_DB, most=1.08),
        ),
    ),
    "structured": Page(
        "Structured least squares: path amplitudes that are not reciprocal",
        "Reference R-A with the reverse direction's path phases free (phases) or its amplitudes drawn anew "
        "(independent). Bound: √CRB of the channels drawn, from the Fisher information at the truth.",
        (Panel("to_rmse"), Panel("to_rmse", ratio=True, limit=1.2)),
        goals=(
            Goal("amplitudes not reciprocal, ≥ -10 dB", "≤ 1.2 × √CRB", "to_rmse", most=1.2),
            Goal("outliers", "< 1 %", "outlier_rate", of="value", most=0.01),
        ),
    ),
    "separate-ports": Page(
        "Structured least squares: separate ports",
        "Transmit and receive ports of each node 1 to 10 cm apart, nodes 20 to 60 m apart, line of sight and five "
        "reflectors at -3 to -12 dB that lengthen the path by 10 m or more and 10 m apart from one another; order "
        "unknown, line-of-sight geometry given. Layout chosen. Bound: √CRB of the paths drawn, each with its own "
        "difference between the directions.",
        (Panel("to_rmse"), Panel("to_rmse", ratio=True, limit=1.3)),
        goals=(
            Goal("ports 1 to 10 cm apart, order unknown", "≤ 1.3 × its own √CRB", "to_rmse", most=1.3),
            Goal("outliers", "< 1 %", "outlier_rate", of="value", most=0.01),
        ),
    ),
    "wide-band": Page(
        "122.88 MHz: 1024 subcarriers, 64 symbols",
        "Reference R-A with 1024 subcarriers of 120 kHz: `reciprocity-mle` with reciprocal amplitudes, "
        "`reciprocity-structured` with path phases free in each direction. Bounds as in R-A and in `structured`.",
        (Panel("to_rmse"), Panel("to_rmse", ratio=True, limit=1.09)),
        goals=(
            Goal(
                "MLE, 0 dB", "≤ 11.8 ps", "to_rmse", "reciprocity-mle", {"snr_db": 0.0},
                of="value", most=11.8e-12, scale=1e12, unit=" ps",
            ),
            Goal(
                "structured, 0 dB", "≤ 9.7 ps", "to_rmse", "reciprocity-structured", {"snr_db": 0.0},
                of="value", most=9.7e-12, scale=1e12, unit=" ps",
            ),
            Goal(
                "either, 10 dB", "≤ 3.0 ps", "to_rmse", None, {"snr_db": 10.0},
                of="value", most=3.0e-12, scale=1e12, unit=" ps",
            ),
        ),
    ),
    "auto": Page(
        "auto: the method that suits, reciprocal or not",
        "Reference R-A; reciprocal amplitudes, and phases that are not. Bound of every row: the best of the "
        "methods that `auto` chooses among, on the same draws, invalid results included.",
        (
            Panel("to_rmse", title="reciprocal", where={"amplitudes": "reciprocal"}),
            Panel("to_rmse", title="phases free", where={"amplitudes": "phases"}),
            Panel("to_rmse", methods=("auto",), ratio=True, limit=1.1),
        ),
        goals=(Goal("-10 to 30 dB, reciprocal or not", "≤ 1.1 × best", "to_rmse", "auto", most=1.1),),
    ),
    "cacc": Page(
        "CACC with mirrored MUSIC",
        "97 subcarriers of 480 kHz, 128 symbols of 0.25 ms, four antennas, line of sight at 50 ns, targets within "
        "10 ns and 30 Hz of 150 ns, +310 Hz and of 320 ns, -480 Hz at -10 dB; timing uniform in ±30 ns and a free "
        "phase, new in every symbol. Chosen: bearings uniform in ±60°, carrier 28 GHz. Bound: docs/methods/cacc.md "
        "eq. 3.",
        (Panel("range_rmse"), Panel("doppler_rmse"), Panel("delay_rmse", ratio=True, limit=1.5)),
        goals=(
            Goal("delay", "≤ 1.5 × bound", "delay_rmse", None, {"snr_db": (0.0, 20.0)}, most=1.5),
            Goal("Doppler", "≤ 1.5 × bound", "doppler_rmse", None, {"snr_db": (0.0, 20.0)}, most=1.5),
            Goal(
                "path length at 10 dB", "≤ 5 cm", "range_rmse", None, {"snr_db": 10.0},
                of="value", most=0.05, scale=100.0, unit=" cm",
            ),
            Goal(
                "Doppler at 10 dB", "≤ 0.3 Hz", "doppler_rmse", None, {"snr_db": 10.0}, of="value", most=0.3, unit=" Hz"
            ),
            Goal("sign errors", "none", "sign_error_rate", of="value", most=0.0),
        ),
    ),
    "csi-ratio": Page(
        "CSI ratio: Doppler of one mover",
        "Two antennas, 128 symbols of 1 ms, one moving path 20 or 6 dB below the static one, a free phase in every "
        "symbol, Doppler at least two turns in the slot. Chosen: the paths' phase contrast between the antennas, "
        "arccos 0.7, which gives the reference's bound. Bound: first order at -20 dB, that of the exact Möbius "
        "model at -6 dB.",
        (
            Panel("doppler_rmse", title="mover at −20 dB", where={"dynamic_db": -20.0}),
            Panel("doppler_rmse", title="mover at −6 dB", where={"dynamic_db": -6.0}),
            Panel("doppler_rmse", ratio=True),
        ),
        goals=(
            Goal("dynamic -20 dB", "≤ 1.1 × bound", "doppler_rmse", "csi-ratio", {"dynamic_db": -20.0}, most=1.1),
            Goal(
                "dynamic -6 dB, exact fit", "≤ 1.3 × bound", "doppler_rmse", "csi-ratio", {"dynamic_db": -6.0}, most=1.3
            ),
        ),
    ),
    "path-resolved": Page(
        "Path-resolved: 1.76 GHz, timing and phase new in every packet",
        "256 subcarriers, 64 packets 0.27 ms apart, line of sight, static reflector at -8 dB, target at -15 dB 2 "
        "to 25 ns later, Doppler 150 to 1500 Hz; timing a random walk of 0.3 ns a packet with 3 ns of jitter. "
        "Chosen: carrier 60.48 GHz. Bound: target's and line of sight's delay bounds in quadrature.",
        (Panel("delay_median"), Panel("doppler_rmse")),
        goals=(
            Goal(
                "median delay error at 10 dB", "≤ 3 ps", "delay_median", None, {"snr_db": 10.0},
                of="value", most=3e-12, scale=1e12, unit=" ps",
            ),
            Goal("outliers", "< 2 %", "outlier_rate", of="value", most=0.02),
        ),
    ),
    "fingerprint": Page(
        "Fingerprint spectrum: time offset against a stored map",
        "120 kHz, 64 symbols of 0.25 ms, six static paths of 0.1 to 1.5 µs, target at -10 dB, time offset ±100 ns, "
        "CFO ±400 Hz, 0 dB. Chosen: carrier 28 GHz; with line of sight its path comes at 50 ns, 10 dB above the "
        "others together. Bound: both slots equally noisy.",
        (
            Panel("to_rmse", "subcarriers", log_x=True),
            Panel("to_rmse", "subcarriers", ratio=True, limit=1.2, log_x=True),
            Panel("cfo_rmse", "subcarriers", log_x=True),
        ),
        goals=(
            Goal("with line of sight", "≤ 1.2 × bound", "to_rmse", None, {"line_of_sight": True}, most=1.2),
            Goal("without", "≤ 1.2 × bound", "to_rmse", None, {"line_of_sight": False}, most=1.2),
        ),
    ),
    "cooperation": Page(
        "Cooperation: the node's own echo locates the scatterers",
        "256 subcarriers of 480 kHz, 16 symbols of 0.1 ms, four antennas, nodes 60 m apart, six scatterers of "
        "equal echo in 100 by 100 m, resolved in echo and link; 5.8 GHz. The whole layout is chosen. Bound: "
        "methods 3.5.",
        (Panel("to_rmse"), Panel("to_rmse", ratio=True, limit=1.3), Panel("cfo_rmse")),
        goals=(Goal("time offset", "≤ 1.3 × bound", "to_rmse", "cooperation", most=1.3),),
    ),
    "contract": Page(
        "All methods on links made from the clock model",
        "Errors over the bound, by method, each on the links that its inputs need (docs/methods/applicability.md): 96 "
        "subcarriers of 480 kHz, 32 symbols, 5.8 GHz, clocks within 5 ppm, the coarse stage off by up to 30 ns and "
        "100 Hz. All chosen.",
        tuple(Panel(f"{what}_rmse_by_bound", "snr_db") for what in ("to", "cfo", "delay", "doppler")),
    ),
    "applicability": Page(
        "Assumptions broken, and kept",
        "Share of links whose result is valid and errs by more than five stated deviations, by broken assumption; "
        "with assumptions kept, share called invalid. 10 dB; 20 dB for the CSI ratio. Goals: 1 and 2 %.",
        (
            *(
                Panel("silent_wrong_rate", "method", title=name, where={"assumption": name})
                for name in ("no line of sight", "no static path", "CFO aliased", "mover unresolved")
            ),
            Panel("false_rejection_rate", "method", title="intact", where={"assumption": "intact"}),
        ),
    ),
    "aoa": Page(
        "Angle of arrival at two antennas, chains calibrated at broadside",
        "A mover within ±45° of broadside alone in its cell, found by CFAR in 64 subcarriers and 32 symbols; "
        "chains of unknown phase and ±1 dB gain, calibrated with a wave from broadside at 60 dB. All chosen. "
        "Bound: 1/(π·cos θ·√ρ), ρ the cell's SNR at one antenna.",
        (
            Panel("angle_rmse", "cell_snr_db"),
            Panel("angle_rmse", "cell_snr_db", methods=("music calibrated",), ratio=True, limit=1.2),
        ),
        goals=(Goal("10 to 40 dB, calibrated", "≤ 1.2 × bound", "angle_rmse", "music calibrated", most=1.2),),
    ),
    "mesh": Page(
        "Mesh: clocks closed over all pairs",
        "Every pair of N nodes measured once with 10 ps and 5e-12, clocks within ±25 ppm and ±20 s; offsets "
        "between any two nodes after closing. Bound: variance 2σ²/N.",
        (Panel("to_rmse", "nodes"),),
        goals=(Goal("N = 4, 6, 8", "variance 2σ²/N ± 10 %", "to_variance", most=1.1, least=0.9),),
    ),
    "clock-prediction": Page(
        "Prediction through five lost rounds",
        "Two clocks of one preset, 45 rounds of 1 s with 5 ps (TCXO) or 2 ps (OCXO), then five lost and one more "
        "to predict. Wander drawn from the covariance that the spectrum's integral gives. Bound column: the "
        "Gaussian-process predictor of that spectrum, on the same draws. Chosen: rounds, spacing, deviations.",
        (
            Panel("to_rmse", "rounds_ahead", "TCXO", {"oscillator": "tcxo"}),
            Panel("to_rmse", "rounds_ahead", "OCXO", {"oscillator": "ocxo"}),
        ),
        goals=(
            Goal(
                "after five lost rounds", "≤ 1.2 × Gaussian process", "to_rmse", "tracker",
                {"rounds_ahead": 6}, most=1.2,
            ),
            Goal("NIS consistent", "1 ± 2 % per degree", "nis_per_degree", most=1.02, least=0.98),
        ),
    ),
    "localization": Page(
        "What residual clock errors do to positions",
        "Four nodes on a circle of 100 m, all 16 delays with 20 ps, targets uniform over a disc of 30 m (chosen). "
        "Centralised: all delays at once, pairs' offsets free; decentralised: each node alone, averaged; "
        "monostatic: own echoes. The bound column has the reference's figures (methods 4).",
        (Panel("position_rmse", "offset_ps"),),
        goals=(
            Goal(
                "decentralised, offsets from five targets", "≥ 96 % of synchronous",
                "share_of_synchronous_performance", "decentralised",
                of="value", least=0.96, scale=100.0, unit=" %",
            ),
            Goal(
                "centralised", "loses < 2 % for TO ≤ 1 ns", "share_of_synchronous_performance", "centralised",
                of="value", least=0.98, scale=100.0, unit=" %",
            ),
        ),
    ),
    "half-duplex-40mhz": Page(
        "From IQ, half duplex: 40 MS/s, OCXO, calibrated, shared port, 30 dB",
        "Whole chain on simulated radios: 800 of 1024 subcarriers at 40 MS/s (31 MHz occupied), 256 symbols, one "
        "frame a slot, slots 8 ms apart; two nodes 8 to 40 m apart, five static reflectors, clocks within ±25 ppm. "
        "Chosen: synthesizers of 0.5° rms, one port behind a switch, so that departures come from time stamps, "
        "chain delays of 5 to 50 ns calibrated. Bound: median of the stated deviations, clocks and synthesizers "
        "included.",
        (Panel("to_rmse", "method"), Panel("cfo_rmse", "method")),
        goals=(
            Goal(
                "40 MHz, half duplex, OCXO, calibrated, shared port, 30 dB, 256 symbols", "≤ 2 ps", "to_rmse",
                "reciprocity-mle", of="value", most=2e-12, scale=1e12, unit=" ps",
            ),
        ),
    ),
    "survey-5": Page(
        "Survey Fig. 5: fingerprint spectrum at two times",
        "Reference 3.4 without line of sight, 256 subcarriers; the map of either slot, and its correlation with "
        "the fingerprint of the first (survey eq. 33): the peak moves from zero to the change of time offset and "
        "CFO. The survey states no parameters: all are chosen; picture at 10 dB. Right cell: on the grid of eq. "
        "33, before refinement.",
        picture=("survey_fingerprint", "picture_5"),
        goals=(
            Goal("refined time offset, 0 dB and above", "≤ 1.2 × bound", "to_rmse", None, _FROM_0_DB, most=1.2),
            Goal(
                "peak in the right cell, 0 dB and above", "≥ 99 %", "peak_in_the_right_cell", None, _FROM_0_DB,
                of="value", least=0.99, scale=100.0, unit=" %",
            ),
        ),
    ),
    "survey-6": Page(
        "Survey Fig. 6: path length against the number of subcarriers",
        "Reference 3.4 at 0 dB, two antennas. Fingerprint: its time offset known when it was taken; `cacc-fft`: "
        "two antennas' product, peak on a padded grid; `cacc`: mirrored least squares, left out where it calls "
        "itself invalid. Chosen: everything but the range of K; line of sight 10 dB above the other static paths "
        "together, and its delay known to CACC. All trials, outliers included. Bounds dotted: two cells' variances "
        "for the fingerprint, one cross term for `cacc-fft`, both for `cacc`.",
        (
            Panel("range_rmse_all", "subcarriers", "line of sight", {"line_of_sight": True}, log_x=True),
            Panel("range_rmse_all", "subcarriers", "none", {"line_of_sight": False}, log_x=True),
        ),
        goals=(
            Goal(
                "fingerprint, K = 256", "0.115 m (prototype)", "range_rmse", "fingerprint", {"subcarriers": 256},
                of="value", most=0.115, unit=" m",
            ),
            Goal(
                "fingerprint, K = 1024", "0.013 m (prototype)", "range_rmse", "fingerprint", {"subcarriers": 1024},
                of="value", most=0.013, unit=" m",
            ),
            Goal(
                "CACC on the grid with line of sight, K = 256", "0.25 m (prototype)", "range_rmse", "cacc-fft",
                {"subcarriers": 256, "line_of_sight": True}, of="value", most=0.25, unit=" m",
            ),
        ),
    ),
    "pluto": Page(
        "Two simulated Plutos under the unchanged driver stack",
        "From IQ, through pyadi-iio and libiio: snapshots at 20 MS/s, half duplex, no time stamps, one port, leakage "
        "40 dB above the distant node, crystals up to 25 ppm off, chains calibrated, 25 dB, 48 symbols of 800 "
        "subcarriers, line of sight and two reflectors. Worlds of ten rounds, each drawn anew. Bound: the deviation "
        "stated.",
        goals=(
            Goal(
                "no time stamps, ±25 ppm", "≤ 10 ps", "to_rmse", "reciprocity-mle", of="value", most=10e-12,
                scale=1e12, unit=" ps",
            ),
            Goal("valid", "≥ 95 %", "valid_share", of="value", least=0.95, scale=100.0, unit=" %"),
        ),
    ),
    "survey-7": Page(
        "Survey Fig. 7: offsets that two nodes see of each other",
        "Two nodes, six static paths in common, a target at -10 dB that differs from frame to frame; 256 "
        "subcarriers of 120 kHz, 64 symbols of 0.25 ms; time offset ±100 ns and CFO ±400 Hz new in every frame. "
        "Each node by itself, by the fingerprint of its first frame; both together, by the matched product. The "
        "survey states no parameters: all are chosen; picture at 10 dB. Bound of the sum: √2 of one node's. The "
        "sum's mean over a scene's frames is what the two fingerprints err by.",
        picture=("survey_reciprocity", "picture_7"),
        goals=(Goal("sum of both views", "zero within 1.2 × bound", "to_rmse", "sum of both", most=1.2),),
    ),
    "survey-8": Page(
        "Survey Fig. 8: localization error over SINR",
        "Four nodes of one antenna on a circle of 100 m, all 16 delays at their bound, decentralised; one node "
        "with four antennas, own delay and bearing at their bounds. Chosen: 576 MHz (600 × 960 kHz, 4 symbols), "
        "which makes the on-grid correlation err by the survey's 250 ps; frames between nodes 10 dB above the "
        "target's SINR; targets over a disc of 30 m. `spectral-cc` and `reciprocity-mp`: estimated on such frames, "
        "pair by pair; 250 ps and 10 ps: the survey's residuals, at every SINR. Bound column: no offset.",
        (
            Panel("position_rmse", "sinr_db"),
            Panel(
                "share_of_synchronous_performance", "sinr_db",
                methods=("distributed, reciprocity-mp", "distributed, 10 ps", "distributed, spectral-cc"),
            ),
        ),
        goals=(
            Goal(
                "matrix pencil, decentralised", "≥ 96 % of synchronous", "share_of_synchronous_performance",
                "distributed, reciprocity-mp", of="value", least=0.96, scale=100.0, unit=" %",
            ),
        ),
    ),
    "deviations": Page(
        "Stated deviations of two-way methods, from IQ",
        "Mean of squared error over squared stated deviation: one where the deviation is honest. 4 MS/s, 200 "
        "subcarriers, 16 symbols a frame of every 2 ms, 25 dB, half-duplex, TCXO, 0.5° of synthesizer noise, line of "
        "sight and two reflectors, places and clocks random; ten rounds to a world. Layout chosen.",
        (
            Panel("to_nees", "frames_per_slot", log_x=True),
            Panel("cfo_nees", "frames_per_slot", log_x=True),
        ),
        goals=tuple(
            Goal(
                f"{name}, slots of 1 and 10 frames", "within chi-square's 99.9 % of 120", metric, method, of="value",
                most=1.48, least=0.62,
            )
            for metric, name in (("to_nees", "time offset"), ("cfo_nees", "CFO"))
            for method in ("reciprocity-mle", "reciprocity-mp", "spectral-cc")
        ),
    ),
    "plan": Page(
        "Plan against run",
        "Three nodes about a car whose Doppler is two cells off on every link, 10 MS/s, eight frames a slot, all noise "
        "on; one round an experiment, noise and starts drawn anew. Bound: what `isac plan` says beforehand.",
        (),
        goals=tuple(
            Goal(f"{what} within 15 % of the plan", "0.85 to 1.15 × plan", metric, most=1.15, least=0.85)
            for what, metric in (("TO", "to_rmse"), ("CFO", "cfo_rmse"), ("position", "position_rmse"))
        ),
    ),
}  # fmt: skip


def page(name: str) -> Page:
    """The page of the bench called ``name``; a plain one if it has none."""
    return PAGES.get(name) or Page(name, "")
