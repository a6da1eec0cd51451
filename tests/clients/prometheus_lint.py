"""Reads a scrape with Prometheus' own parser for Python, and says what it holds and what is wrong with it, as JSON.

The rules are those of `promtool check metrics` that can be read off a scrape: help and type of every family, names by the
conventions, no series twice, and histograms whose buckets add up.
"""

import json
import math
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
problems = []
for family in text_string_to_metric_families(sys.stdin.read()):
    if family.name in families:
        problems.append(f"{family.name}: twice")
    if not family.documentation:
        problems.append(f"{family.name}: no help")
    if family.type not in ("counter", "gauge", "histogram"):
        problems.append(f"{family.name}: of type {family.type}")
    if family.type == "gauge" and family.name.endswith(("_total", "_count", "_sum", "_bucket")):
        problems.append(f"{family.name}: a gauge with the name of something else")
    for unit in ("milliseconds", "minutes", "kilobytes", "percent"):
        if unit in family.name:
            problems.append(f"{family.name}: {unit} is no base unit")
    samples, seen, buckets = [], set(), {}
    for sample in family.samples:
        if family.type == "counter" and not sample.name.endswith("_total"):
            problems.append(f"{sample.name}: a counter without _total")
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            problems.append(f"{key}: twice")
        seen.add(key)
        if math.isnan(sample.value) or (family.type != "gauge" and sample.value < 0):
            problems.append(f"{key}: {sample.value}")
        if family.type == "histogram" and not sample.name.endswith("_sum"):
            rest = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            bound = float(sample.labels.get("le", "inf"))
            buckets.setdefault(rest, []).append((bound, sample.value))
        samples.append({"name": sample.name, "labels": sample.labels, "value": sample.value})
    for rest, found in buckets.items():
        values = [value for _, value in sorted(found)]
        # The last two are the bucket without a bound and the count, which must agree.
        if values != sorted(values) or values[-1] != values[-2]:
            problems.append(f"{family.name}{dict(rest)}: buckets do not add up: {found}")
    families[family.name] = {"type": family.type, "samples": samples}
json.dump({"families": families, "problems": problems}, sys.stdout)
sys.exit(1 if problems else 0)
