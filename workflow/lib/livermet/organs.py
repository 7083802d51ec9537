"""What kind of organ a lesion lies in, from the free text of lesions.tsv in English or a Nordic language."""

from __future__ import annotations

import re

LIVER, PANCREAS, OUTSIDE = "liver", "pancreas", "outside"
_WORDS = {
    LIVER: "liver lever levern leveren maksa maksan hepar",
    PANCREAS: "pancreas pancreatic pancreatis pankreas haima haiman bukspottkörtel bukspottkörteln bugspytkirtel "
    "bukspyttkjertel primary primär primärtumör primærtumor",
    OUTSIDE: "lung lungs lunga lungor lunge lunger pulmonary keuhko pleura mediastinum peritoneum peritoneal bukhinna "
    "bukhinnan omentum bone bones skeleton skelett luu luusto brain hjärna hjerne aivot adrenal adrenals binjure "
    "binyre spleen mjälte milt kidney njure nyre ovary ovaries ovarie skin hud colon stomach thyroid breast",
}
_ORGANS = {word: organ for organ, words in _WORDS.items() for word in words.split()}
NODE_WORDS = frozenset("node nodes lymphnode lymphnodes lymfkörtel lymfknute imusolmuke".split())


def organ_words(text: str) -> list[str]:
    """Words of a text in lower case, without numbers: ``LIVER_S4`` has liver and s."""
    return re.findall(r"[^\W\d_]+", text.casefold())


def organ_of(text: str) -> str:
    """LIVER, PANCREAS or OUTSIDE (of both), by the first word that tells; "" where none does."""
    return next((_ORGANS[word] for word in organ_words(text) if word in _ORGANS), "")
