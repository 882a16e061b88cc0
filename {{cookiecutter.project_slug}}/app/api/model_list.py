"""The names that `model` may have in OpenAI's interface, as its clients list them."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.guards import require
from app.api.state import RuntimeDep
from app.identity.principal import Principal
from app.runtime import Runtime

router = APIRouter(prefix="/v1", tags=["models"])


class ModelView(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelView]


@router.get("/models", response_model=Models)
async def list_models(runtime: RuntimeDep, _: Annotated[Principal, require("chat:write")]) -> Models:
    """The names that `model` may have: of chats first, then of embeddings."""
    return Models(data=[_view(runtime, name) for name in _names(runtime)])


@router.get("/models/{model_id:path}", response_model=ModelView)
async def get_model(model_id: str, runtime: RuntimeDep, _: Annotated[Principal, require("chat:write")]) -> ModelView:
    """One of these names, or another that a chat may ask for. It may contain slashes and colons."""
    if model_id not in runtime.embeddings.catalog.model_names.offered:
        runtime.chat.catalog.tier_of(model_id)
    return _view(runtime, model_id)


def _names(runtime: Runtime) -> list[str]:
    of_embeddings = runtime.embeddings.catalog.model_names.offered
    of_chats = runtime.chat.catalog.model_names.offered
    return of_chats + [name for name in of_embeddings if name not in of_chats]


def _view(runtime: Runtime, name: str) -> ModelView:
    return ModelView(id=name, owned_by=runtime.settings.service.name)
