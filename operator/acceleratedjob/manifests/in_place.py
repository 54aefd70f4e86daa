"""The environment variables about restarts in place: how many, and after which failures none.

A failure policy decides about the failures that end an attempt. So a failure that a rule is about
must end the attempt: the launcher then leaves, and the first rule that matches decides as always.
"""

from acceleratedjob.api.names import Reason
from acceleratedjob.api.sections import FailureRule, Verdict
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.observe.endings import SIGNAL_BASE

RESTARTS = "ACCELERATEDJOB_IN_PLACE_RESTARTS"
STALL_DEADLINE = "ACCELERATEDJOB_STALL_DEADLINE_SECONDS"
FAIL_EXIT_CODES = "ACCELERATEDJOB_FAIL_EXIT_CODES"

# What a container has that ends by itself; all other reasons are those of pods, of the node, of
# containers that never ran, or of the memory limit, which the launcher recognizes.
_OWN_REASONS = frozenset({"Error", Reason.CONTAINER_FAILED})
_OF_DISRUPTIONS = frozenset({"DisruptionTarget"})


def in_place_env(spec: JobSpec) -> dict[str, str]:
    """Return the variables about restarts in place."""
    env = {RESTARTS: str(restarts(spec))}
    if (codes := exit_codes(spec)) and restarts(spec):
        env[FAIL_EXIT_CODES] = ",".join(map(str, codes))
    if spec.stall_deadline_seconds is not None and not _has_rule_for_stalls(spec):
        env[STALL_DEADLINE] = str(spec.stall_deadline_seconds)
    return env


def restarts(spec: JobSpec) -> int:
    """Return how many lives may follow the first one; 0 if a rule may fail the job for any end."""
    policy = spec.failure_policy
    fails = (one for one in policy.rules if one.action is Verdict.FAIL and _may_match(one))
    return 0 if any(not _named(one) for one in fails) else policy.in_place_restarts


def exit_codes(spec: JobSpec) -> tuple[int, ...]:
    """Return the exit codes of a process that a rule is about, whatever its action."""
    rules = (one for one in spec.failure_policy.rules if _may_match(one))
    return tuple(sorted({code for one in rules for code in _named(one)}))


def _named(rule: FailureRule) -> set[int]:
    """Return the exit codes that a rule names; signal n has the exit code 128 + n."""
    return {*rule.exit_codes, *(SIGNAL_BASE + number for number in rule.signals)}


def _may_match(rule: FailureRule) -> bool:
    """Whether a rule may match the failure of a process that ends by itself."""
    is_elsewhere = bool(rule.reasons) and _OWN_REASONS.isdisjoint(rule.reasons)
    is_disruption = bool(rule.pod_conditions) and _OF_DISRUPTIONS.issuperset(rule.pod_conditions)
    return not is_elsewhere and not is_disruption


def _has_rule_for_stalls(spec: JobSpec) -> bool:
    """Whether a rule names stalls: then the operator ends the attempt, and the rule decides."""
    return any(Reason.STALLED in one.reasons for one in spec.failure_policy.rules)
