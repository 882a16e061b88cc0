"""What an evaluation checks, each with the reason for its verdict."""

from dataclasses import dataclass

from pydantic_evals.evaluators import EvaluationReason, Evaluator, EvaluatorContext

from app.evals.cases import CaseTags, EvalResult, EvalTask, Expected

Context = EvaluatorContext[EvalTask, EvalResult, CaseTags]


def _expected(ctx: Context) -> Expected:
    return Expected.model_validate(ctx.expected_output, from_attributes=True)


@dataclass
class EndsAsExpected(Evaluator[EvalTask, EvalResult, CaseTags]):
    def evaluate(self, ctx: Context) -> EvaluationReason:
        want, got = _expected(ctx).state, ctx.output.state
        return EvaluationReason(value=got == want, reason=f"{got}, expected {want}")


@dataclass
class RunsTheRightTools(Evaluator[EvalTask, EvalResult, CaseTags]):
    """The tools that ran by themselves, in order; one more or one fewer is wrong."""

    def evaluate(self, ctx: Context) -> EvaluationReason:
        want, got = _expected(ctx).ran, ctx.output.ran
        return EvaluationReason(value=got == want, reason=f"ran {got}, expected {want}")


@dataclass
class AsksForTheRightActions(Evaluator[EvalTask, EvalResult, CaseTags]):
    def evaluate(self, ctx: Context) -> EvaluationReason:
        want, got = _expected(ctx).waiting, ctx.output.waiting
        return EvaluationReason(value=got == want, reason=f"waits for {got}, expected {want}")


@dataclass
class Mentions(Evaluator[EvalTask, EvalResult, CaseTags]):
    def evaluate(self, ctx: Context) -> EvaluationReason:
        text = f"{ctx.output.answer}\n{ctx.output.arguments}".lower()
        missing = [word for word in _expected(ctx).mentions if word.lower() not in text]
        return EvaluationReason(value=not missing, reason=f"missing {missing}" if missing else "all there")


@dataclass
class NeverSays(Evaluator[EvalTask, EvalResult, CaseTags]):
    def evaluate(self, ctx: Context) -> EvaluationReason:
        text = f"{ctx.output.answer}\n{ctx.output.arguments}".lower()
        said = [word for word in _expected(ctx).never if word.lower() in text]
        return EvaluationReason(value=not said, reason=f"said {said}" if said else "clean")


EVALUATORS = (EndsAsExpected, RunsTheRightTools, AsksForTheRightActions, Mentions, NeverSays)
