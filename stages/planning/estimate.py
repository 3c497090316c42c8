"""What the stages will do, as params.yaml has them: an estimate from sizes, before anything runs."""

from transformers import PreTrainedModel

from secateurs.choose.options import Options
from secateurs.estimate.read_tokens import Reading
from secateurs.estimate.work import Work, pruning_work
from secateurs.evaluation.cost import macs_per_token
from secateurs.settings.sources import DIALOGUE_DOMAIN, SELF_DOMAIN
from stages.params.file import Params
from stages.params.method_settings import method_settings
from stages.planning.schedule import portions

# Starting Python, importing the libraries and loading a model.
START_SECONDS = 8.0
# Tokens of all choices of one zero-shot item, roughly; stock tasks with long passages have more.
ITEM_TOKENS = 100


def reading_of(params: Params) -> Reading:
    """What the stages read."""
    return Reading(portions(params), params.corpus.sequence_length, params.compute.dtype)


def estimate_work(params: Params, model: PreTrainedModel, tried: Options | None = None) -> list[Work]:
    """The stages whose work grows with model and text, in order (pruning_work), and what they evaluate.

    Tasks without a limit on their items are left out.
    """
    corpus, evaluate, dialogues = params.corpus, params.evaluate, params.sample.dialogues
    forward, reading = 2.0 * macs_per_token(model), reading_of(params)
    sampled = params.sample.documents * params.sample.tokens if params.mixture[SELF_DOMAIN] else 0
    if params.mixture[DIALOGUE_DOMAIN]:
        sampled += dialogues.count * (dialogues.question.tokens + dialogues.answer.tokens)
    read = len(params.domains) * corpus.heldout_sequences * corpus.sequence_length
    read += evaluate.limit * len(params.benchmarks) * ITEM_TOKENS
    timed = 2 * (evaluate.repeats + 1) * (evaluate.prompt_tokens + evaluate.decode_tokens)
    return [
        Work("model", 1, 0, 0.0, float(model.num_parameters() * reading.bytes_each)),
        Work("sample", 1, sampled, sampled * forward, 0.0),
        *pruning_work(model, method_settings(params), reading, tried),
        Work("evaluate dense", 1, read, read * forward, 0.0),
        Work("evaluate pruned", 1, read, read * forward, 0.0),
        Work("timings", 1, timed, timed * forward, 0.0),
    ]
