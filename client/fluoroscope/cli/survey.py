"""An inspection of a data set: many requests, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fluoroscope.calls import Full, InvalidRequestError, Survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fluoroscope.calls import Activation, Model, Site
    from fluoroscope.cli.bar import RowBar
    from fluoroscope.cli.dataset import DataSet
    from fluoroscope.client import Client


def surveyed(
    client: Client,
    model: Model,
    data: DataSet,
    question: Mapping[str, Any],
    *,
    batch_size: int | None,
    bar: RowBar,
) -> Iterable[Activation]:
    """Returns what reductions of a data set come to, by site in execution order.

    Args:
        client: What sends the batches.
        model: The network.
        data: The inputs.
        question: What to ask beside the inputs, as `Client.inspect` takes it.
        batch_size: How many examples to send at once; None means the most that the model takes.
        bar: Told of each answer.

    Raises:
        click.UsageError: The model takes no batches of this size, or the reductions do not add up.
        LimitExceededError: What is one for each example has too many bytes.
    """
    most = max(model.buckets, default=1)
    size = most if batch_size is None else batch_size
    if size > most:
        raise click.UsageError(f"--batch-size {size}: the model {model.name} takes at most {most} examples at once.")
    survey = _begun(client, model, data.rows, min(size, data.rows), question)
    limits = {"max_bytes": question["max_bytes"], "version": model.version}
    for number, asked in enumerate(survey.passes(), start=1):
        for inputs in data.batches(size):
            inspection = client.inspect(model.name, inputs, **asked, **limits)
            survey.add(inspection)
            bar(inspection, done=survey.rows, passes=number)
    return survey.values()


def taken(
    client: Client, model: Model, data: DataSet, question: Mapping[str, Any]
) -> tuple[DataSet, Mapping[str, Any]]:
    """Returns the examples that the slices of a question leave, and the question without those slices.

    A slice of the batch axis means rows of the data set, whatever the batches: the others need not be sent.

    Raises:
        click.UsageError: An axis is the batch of some sites and not of others, or the slice lies outside the data set.
    """
    if not question["slices"]:
        return data, question
    sites = _meant(client, model, 1, {**question, "reduce": Full(), "slices": ()})
    kept = []
    for each in question["slices"]:
        of_batch = [site.batch_axis in {each.axis, each.axis + len(site.shape)} for site in sites]
        if not any(of_batch):
            kept.append(each)
        elif all(of_batch):
            data = data.taken(each)
        else:
            one, other = (sites[of_batch.index(found)].path for found in (True, False))
            raise click.UsageError(
                f"--slice: axis {each.axis} is the batch of {one}, and not of {other}: ask for them one by one."
            )
    return data, {**question, "slices": tuple(kept)}


def _begun(client: Client, model: Model, total: int, rows: int, question: Mapping[str, Any]) -> Survey:
    """Returns a survey of the sites that the question means; the server refuses now what it would refuse later."""
    sites = _meant(client, model, rows, question)
    try:
        return Survey(
            sites,
            reduce=question["reduce"],
            slices=question["slices"],
            max_bytes=question["max_bytes"],
            expected_rows=total,
        )
    except InvalidRequestError as error:
        raise click.UsageError(f"--dataset: {error.message}.") from None


def _meant(client: Client, model: Model, rows: int, question: Mapping[str, Any]) -> list[Site]:
    """Returns the sites that a question means, in execution order."""
    planned = client.plan(model.name, rows, **question, version=model.version)
    meant = {result.site for result in planned.results}
    return [site for site in client.sites(model.name, *meant, version=model.version) if site.path in meant]
