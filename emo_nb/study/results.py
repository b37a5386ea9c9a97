"""The figures that the project shows, read from the files in `results/` that a command wrote, each with its origin.

Files written by earlier versions name some things otherwise; `load_result` gives them today's names.
"""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import requests
from pydantic import Field

from ..core import ConfigError, DataError, SourceError, first_line, read_json_object
from ..io.schema import Name, Provenance, Record, Scores, Section, Share, TrainingRecord, check_record
from ..taxonomy import TASKS

RESULTS_URL = "https://raw.githubusercontent.com/emo-nb/emo_nb/main/results/"
PROJECT = "emo_nb"
# The kinds of machines whose measurements the project has in results/bench/, as pages write them
BENCH_KINDS = {"avx512-bf16": "AVX512-BF16", "avx2-kept": "kept to AVX2"}
METHOD_NAMES = {"finetune": "every layer", "lora": "LoRA", "tfidf": "TF-IDF"}  # as the pages write them
_MAKE_ANEW = "get it anew, or make it with `make results`"
_EARLIER_NAMES = {"full": "finetune", "words": "tfidf"}


class StoredRun(TrainingRecord):
    "A run as a result file holds it."

    metrics: dict[str, Scores] = Field(description="for each corpus, the scores as in `metrics.json`")
    history: list[dict[str, float | None]] = Field(description="one entry an epoch")


class Result(Provenance):
    "A file in `results/`."

    runs: dict[str, StoredRun] = Field({}, description="by what distinguishes them")


class TaskResult(Provenance):
    "A file in `results/` about one of the corpora's own tasks."

    runs: dict[str, list[StoredRun]] = Field(description="for each method, one a seed")
    seeds: dict[str, dict[str, dict[str, dict[str, float]]]] = Field(
        description="for each method and corpus, `mean` and `sd` of the scores"
    )
    baselines: dict[str, dict[str, Scores]] = Field(description="for each baseline and corpus")
    paired: dict[str, dict[str, float | list[float]]] = Field(
        {}, description="for each pair of models, what `compare_paired` returns"
    )


class BenchResult(Provenance):
    "A file in `results/` that `make bench` wrote."

    rounds: int = Field(ge=1)
    found: dict[str, dict[str, dict[str, list[float]]]] = Field(description="size, way, measure: one value a round")


class PublishedScore(Section):
    "A score that somebody else published."

    task: Name
    model: Name
    million_parameters: float = Field(gt=0)
    score: Name
    value: Share
    thresholds: str | None
    source: Name
    apart: str | None = Field(default=None, description="why it is not compared with the others; null where it is")


class Published(Record):
    "`results/published.json`, typed in by hand."

    models: list[PublishedScore] = Field(min_length=1)


def load_result(name: str) -> dict[str, Any]:
    """The file `results/NAME.json`, from the checkout or else from the project's address.

    Raises `SourceError` where neither has it, `DataError` where it does not fit its schema.
    """
    files = [folder / "results" / f"{name}.json" for folder in (Path.cwd(), *Path.cwd().parents)]
    if local := [file for file in files if os.path.exists(file)]:
        where, content = str(local[0]), read_json_object(local[0], DataError, _MAKE_ANEW)
    else:
        where = f"{RESULTS_URL}{name}.json"
        content = _download_result(name, where)
    check_record(content, _schema_of(name), where, DataError, _MAKE_ANEW)
    return _with_current_names(content) if _schema_of(name) is TaskResult else content


def bench_kinds() -> dict[str, str]:
    "The kinds of machines that were measured, as pages write them: `BENCH_KINDS`, and those in your results/bench/."
    folders = [folder / "results" / "bench" for folder in (Path.cwd(), *Path.cwd().parents)]
    kinds = next((os.listdir(folder) for folder in folders if folder.is_dir()), [])
    return BENCH_KINDS | {kind: kind for kind in sorted(kinds) if kind not in BENCH_KINDS}


def load_bench(part: str) -> dict[str, dict[str, Any]]:
    """What `make bench PART=part` found, for each of `bench_kinds` that it was run on.

    Raises `SourceError` where it was run on none, `DataError` where a file does not fit its schema.
    """
    results, missing = {}, None
    for kind in bench_kinds():
        try:
            results[kind] = load_result(f"bench/{kind}/{part}")
        except SourceError as error:
            missing = error
    if not results and missing:
        raise missing
    return results


def _download_result(name: str, url: str) -> dict[str, Any]:
    try:
        response = requests.get(url, timeout=10)
        response.raise_for_status()
        return dict(response.json())
    except (requests.RequestException, TypeError, ValueError, RecursionError) as error:
        raise SourceError(
            f"there is no result {name!r} here or at {url} ({first_line(error)}); make it with `make results`"
        ) from error


def _schema_of(name: str) -> type[Record]:
    "The schema of a result by its name."
    if name in TASKS and name != "shared10":
        return TaskResult
    return Published if name == "published" else BenchResult if name.startswith("bench/") else Result


def _with_current_names(result: dict[str, Any]) -> dict[str, Any]:
    "A task's result with today's names of methods and baselines as keys, in pairs (`finetune over tfidf`) as well."

    def current(key: str) -> str:
        return " over ".join(_EARLIER_NAMES.get(name, name) for name in key.split(" over "))

    parts = [part for part in ("runs", "seeds", "baselines", "paired") if part in result]
    return result | {part: {current(key): value for key, value in result[part].items()} for part in parts}


def format_interval(metrics: dict[str, Any], score: str = "macro_f1") -> str:
    "A score of one model with its 95 % bootstrap interval over test rows."
    low, high = metrics["intervals"][score]
    return f"{metrics[score]:.3f} ({low:.3f} to {high:.3f})"


def format_spread(seeds: dict[str, dict[str, float]], score: str = "macro_f1") -> str:
    "The mean of a score over seeds and its standard deviation, or the score of the only seed."
    return f"{seeds['mean'][score]:.3f}" + (f" ± {seeds['sd'][score]:.3f}" if "sd" in seeds else " (one seed)")


def origin_table(record: dict[str, Any]) -> pd.DataFrame:
    "Where a result comes from: command, date, machine, and the version of each package."
    date, hardware = record["date"], record["hardware"]
    threads = "1 thread" if hardware["threads"] == 1 else f"{hardware['threads']} threads"
    about = {
        "command": record["command"],
        "date": f"{date[:10]}, {date[11:16]} UTC",
        "machine": f"{hardware['processor']}, {threads}, {hardware['gpu'] or 'no GPU'}",
    }
    versions = [f"{name} {number}" for name, number in record["versions"].items()]
    names = [*about, "versions", *[""] * (len(versions) - 1)]
    return pd.Series([*about.values(), *versions], names, name="").to_frame()


def comparison_table(task: str) -> pd.DataFrame:
    """The score of each model on a task, the best first: published ones, baselines, and emo_nb's with both methods.

    Of the published ones those only that can be compared: read at their source, with split and thresholds stated, and
    thresholds chosen without the test rows; a name is followed by size and thresholds. Macro-F1 for a multi-label task,
    accuracy otherwise. emo_nb's are means over seeds; `low` and `high` are the interval of the first seed.
    """
    published = pd.DataFrame(load_result("published")["models"])
    others = published[(published.task == task) & published.apart.isna()]
    if others.empty:
        known = ", ".join(published.task.unique())
        raise ConfigError(f"there are no published scores for the task {task!r}; choose one of: {known}")
    result = load_result(task)
    score, corpus = others.score.iloc[0], next(iter(result["baselines"]["majority"]))
    rows = [
        {"name": f"{one.model}, {one.million_parameters:,}M; {one.thresholds or 'one label'}", "score": one.value}
        for one in others.itertuples()
    ]
    for name, metrics in result["baselines"].items():
        rows.append({"name": f"baseline: {METHOD_NAMES.get(name, name)}", "score": metrics[corpus][score]})
    for method, runs in result["runs"].items():
        low, high = runs[0]["metrics"][corpus]["intervals"][score]
        name = f"{PROJECT}, {METHOD_NAMES[method]} ({runs[0]['parameters']['all'] / 1e6:.0f}M)"
        rows.append({"name": name, "score": result["seeds"][method][corpus]["mean"][score], "low": low, "high": high})
    return pd.DataFrame(rows).set_index("name").sort_values("score", ascending=False, kind="stable")
