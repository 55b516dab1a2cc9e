"""Steps as Prefect tasks, recipes as flows: besides `flows` the only place that knows Prefect."""

from __future__ import annotations

import functools
import inspect
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, cast

from schemas.errors import StorageError, plain
from schemas.payloads import Leaf
from tasks.engine.generic import L, R
from tasks.engine.run import Run, Stopped


def uses_prefect(run: Run) -> bool:
    """Whether a call goes to Prefect; without its server the run continues plain."""
    if run.engine != "prefect" or run.dry:
        return False
    if not server_answers():
        leave_prefect(run, None)
    return run.engine == "prefect"


def leave_prefect(run: Run, error: Exception | None) -> None:
    """Continue the run without Prefect, and warn why."""
    if run.engine == "plain":
        return
    run.engine = "plain"
    reason = "does not answer"
    if error is not None and server_answers():
        reason = f"failed ({type(error).__name__}: {plain(error, limit=200)})"
    run.warn(f"the Prefect server {reason}: continuing without it")
    from prefect.context import SyncClientContext

    # open flows report their end over this connection: once it is closed that fails at once, and
    # not after minutes
    if (context := SyncClientContext.get()) is not None:
        context.client.__exit__(None, None, None)


def is_transient(error: object) -> bool:
    """Whether the call that raised `error` may succeed if it is repeated."""
    return isinstance(error, StorageError) and not error.permanent


def server_answers(timeout: float = 5.0) -> bool:
    """Whether the Prefect server at PREFECT_API_URL answers now."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url.startswith(("http://", "https://")):
        return False
    request = urllib.request.Request(f"{url.rstrip('/')}/health")  # noqa: S310
    if auth := os.environ.get("PREFECT_API_AUTH_STRING"):
        import base64

        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def call_task(
    run: Run,
    name: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    work: Callable[[int], tuple[L, bool]],
) -> L:
    """Run a step as a Prefect task.

    `work` runs the step with a number of retries and returns its payload, and whether it was found
    in the records. Its outcome counts, not the state that Prefect reports; if Prefect itself fails,
    the step runs without it.
    """
    last: list[L | Exception] = []  # the outcome of the last attempt

    @functools.wraps(fn)
    def body(*_args: Any, **_kwargs: Any) -> Any:
        last.clear()
        try:
            leaf, cached = work(0)
        except Exception as error:
            last.append(error)
            if is_transient(error):
                run.warn(f"{name}: {error}; retrying")
            raise
        last.append(leaf)
        return _task_state(leaf, cached)

    try:
        _as_task(run, name, (fn.__doc__ or "").splitlines()[0], body)(*args, **kwargs)
    except Exception as error:
        if last and last[0] is error:
            raise
        leave_prefect(run, error)
    if last and isinstance(last[0], Exception) and not is_transient(last[0]):
        raise last[0]
    if last and not isinstance(last[0], Exception):
        return last[0]
    return work(run.retries)[0]


def _task_state(leaf: Leaf, cached: bool) -> Any:
    """Return the result of the task run: the payload, in a named state if it is not new."""
    from prefect.states import Completed

    state = "Cached" if cached else "ByHand" if leaf.by_hand else None
    data = leaf.model_dump(mode="json")
    return Completed(name=state, data=data) if state else data


def _as_task(run: Run, name: str, text: str, body: Callable[..., Any]) -> Callable[..., Any]:
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(
        name=name,
        description=text,
        task_run_name=f"{name} {run.workspace.visit}",
        retries=run.retries,
        retry_delay_seconds=run.retry_delay,
        retry_condition_fn=lambda _task, _run, state: is_transient(state.data),
        cache_policy=NO_CACHE,
        persist_result=False,
        result_serializer="json",
    )(body)


def call_flow(
    run: Run, name: str, fn: Callable[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> R:
    """Run a recipe as a Prefect flow; if Prefect fails before the recipe ends, run it plain."""
    from prefect import tags

    ended: list[R | BaseException] = []
    try:
        with tags(run.workspace.visit):
            _as_flow(run, name, fn, ended)(*args, **kwargs)
    except Exception as error:
        if not ended or ended[0] is not error:
            leave_prefect(run, error)
    if not ended:
        return fn(*args, **kwargs)
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _as_flow(
    run: Run, name: str, fn: Callable[..., R], ended: list[R | BaseException]
) -> Callable[..., Any]:
    from prefect import flow
    from prefect.context import TagsContext
    from prefect.states import Completed

    @functools.wraps(fn)
    def body(*args: Any, **kwargs: Any) -> Any:
        try:
            # for each tag of a task Prefect asks the server whether it may run: they have none
            with TagsContext(current_tags=set()):
                ended.append(fn(*args, **kwargs))
        except BaseException as error:
            ended.append(error)
            if isinstance(error, Stopped):
                return Completed(name="Stopped", message=f"stopped after {error}")
            raise
        return ended[0]

    # Prefect makes a form for the arguments, which takes long for payloads and is of no use here
    signature = inspect.signature(fn)
    plain_parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    body.__dict__["__signature__"] = inspect.Signature(plain_parameters)
    options: dict[str, Any] = {
        "name": name,
        "flow_run_name": f"{name} {run.workspace.visit}",
        "persist_result": False,
    }
    return cast(
        "Callable[..., Any]",
        flow(**options, result_serializer="json", validate_parameters=False)(body),
    )
