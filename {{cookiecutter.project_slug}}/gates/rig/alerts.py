"""The series that alert rules look at, read with a parser of PromQL, and what a process serves of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Wanted:
    """A series by name, with the labels that the rule asks for exactly."""

    alert: str
    name: str
    labels: frozenset[tuple[str, str]]

    def is_among(self, served: Mapping[str, list[Mapping[str, str]]]) -> bool:
        return any(self.labels <= frozenset(labels.items()) for labels in served.get(self.name, []))


def wanted(rules: Path) -> list[Wanted]:
    """Every series that a rule of the file names."""
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return [series for alert in alerts for series in _series(alert["alert"], promql_parser.parse(alert["expr"]))]


def _series(alert: str, node: Any) -> Iterator[Wanted]:
    match node:
        case promql_parser.VectorSelector():
            equal = [m for m in node.matchers.matchers if m.op == promql_parser.MatchOp.Equal]
            yield Wanted(alert, str(node.name), frozenset((m.name, m.value) for m in equal))
        case promql_parser.MatrixSelector():
            yield from _series(alert, node.vector_selector)
        case promql_parser.BinaryExpr():
            yield from _series(alert, node.lhs)
            yield from _series(alert, node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from _series(alert, argument)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:  # an aggregation, parentheses, a sign, a subquery
            yield from _series(alert, node.expr)


Page = dict[str, list[Mapping[str, str]]]


def served(text: str) -> Page:
    """The labels of every sample of a `/metrics` page, by the sample's name."""
    found: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found
