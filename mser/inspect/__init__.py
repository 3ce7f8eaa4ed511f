"""What a workspace's stores hold and where in them the emotion is, from the stores and manifests alone."""

from mser.inspect.listing import StoreSummary, list_stores, open_stores, summarise
from mser.inspect.statistics import LayerStatistics, effective_rank, layer_statistics

__all__ = [
    "LayerStatistics",
    "StoreSummary",
    "effective_rank",
    "layer_statistics",
    "list_stores",
    "open_stores",
    "summarise",
]
