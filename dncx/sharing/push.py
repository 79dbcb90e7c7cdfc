"""`dncx push`: a trained model on the Hugging Face hub."""

import dataclasses
from collections.abc import Iterator

from dncx.errors import UsageError
from dncx.runs.codec import to_json
from dncx.runs.config import read_config
from dncx.runs.hub import calls_to_hub, hub_name
from dncx.runs.paths import CARD, CONFIG, MODEL, find_run
from dncx.settings.commands import PushSettings
from dncx.sharing.card import PLACE, card, describe, describes_other_weights, published


def push(settings: PushSettings) -> Iterator[str]:
    """Uploads model.safetensors, config.json and the model card of a run in one commit.

    Without a card in the run, it uploads a new one, unless the repository has a card already.

    Raises:
      UsageError: if there is no trained model, its card is of other weights, the hub refuses it or
        cannot be reached, or a repository that should be private is public.
    """
    name = hub_name(settings.repo)
    if name.revision:
        raise UsageError(f"{name}: dncx push writes to the main branch; leave @{name.revision} out")
    run, model = find_run(settings.run_dir), describe(settings.run_dir)
    text = (run / CARD).read_text(encoding="utf-8") if (run / CARD).is_file() else None
    if text is not None and describes_other_weights(text, model):
        raise UsageError(
            f"{run / CARD} was written for other weights, before the model was trained further; "
            f"`dncx card {settings.run_dir} --force` writes a new one; nothing was uploaded"
        )
    contents: dict[str, bytes | str] = {
        MODEL: str(run / MODEL),
        CONFIG: to_json(published(read_config(run / CONFIG))),
    }
    with calls_to_hub(name) as library:
        api = library.HfApi(library_name="dncx")
        url = api.create_repo(name.repo, private=settings.private or None, exist_ok=True)
        if settings.private and not api.repo_info(name.repo).private:
            raise UsageError(f"--private: {name} exists and is public; nothing was uploaded")
        yield f"repository: {url}"
        if text is not None:
            contents[CARD] = text.replace(PLACE, str(name)).encode()
        elif not api.file_exists(name.repo, CARD):
            named = dataclasses.replace(model, name=name.repo.partition("/")[2])
            contents[CARD] = card(named, str(name)).encode()
        else:
            yield f"the {CARD} in the repository stays; check that it describes this model"
        api.create_commit(
            name.repo,
            [library.CommitOperationAdd(path, content) for path, content in contents.items()],
            commit_message=f"{model.name}: {model.progress.iteration:,} iterations",
        )
    yield f"uploaded {', '.join(contents)}; load it as {name}"
