"""Where a joiner shows: between letters that join in writing, and within emoji that Unicode has registered.

Elsewhere U+200C and U+200D change nothing that a person sees: one between any two letters is a bit of a hidden message.
Gate: validation.
"""

import re
import unicodedata

NON_JOINER, JOINER = "\u200c", "\u200d"
_VIRAMA = 9  # the combining class of signs that make a cluster of the consonants around them
_SHIFTERS = "\u17c9\u17ca"  # of Khmer, whose form a non-joiner keeps
# Letters that join the next one, and letters that join the one before (UCD, ArabicShaping.txt; Mongolian among them).
_TO_NEXT = (
    "\u0620\u0626\u0628\u062a-\u062e\u0633-\u063f\u0641-\u0647\u0649\u064a\u066e\u066f\u0678-\u0687\u069a-\u06bf\u06c1\u06c2\u06cc"
    "\u06ce\u06d0\u06d1\u06fa-\u06fc\u06ff\u0712-\u0714\u071a-\u071d\u071f-\u0727\u0729\u072b\u072d\u072e\u074e-\u0758"
    "\u075c-\u076a\u076d-\u0770\u0772\u0775-\u0777\u077a-\u077f\u07ca-\u07ea\u0841-\u0845\u0848\u084a-\u0853\u0855\u0860"
    "\u0862-\u0865\u0868\u0886\u0889-\u088d\u088f\u08a0-\u08a9\u08af\u08b0\u08b3-\u08b8\u08ba-\u08c8\u1807\u1820-\u1878"
    "\u1887-\u18a8\u18aa"
)
_TO_LAST_ONLY = (
    "\u0622-\u0625\u0627\u0629\u062f-\u0632\u0648\u0671-\u0673\u0675-\u0677\u0688-\u0699\u06c0\u06c3-\u06cb\u06cd\u06cf\u06d2\u06d3\u06d5"
    "\u06ee\u06ef\u0710\u0715-\u0719\u071e\u0728\u072a\u072c\u072f\u074d\u0759-\u075b\u076b\u076c\u0771\u0773\u0774\u0778\u0779"
    "\u0840\u0846\u0847\u0849\u0854\u0856-\u0858\u0867\u0869\u086a\u0870-\u0882\u088e\u08aa-\u08ac\u08ae\u08b1\u08b2\u08b9"
)
_JOINS_NEXT = re.compile(f"[{_TO_NEXT}]")
_JOINS_LAST = re.compile(f"[{_TO_NEXT}{_TO_LAST_ONLY}]")
_CLUSTERS = re.compile(r"[\u0900-\u0dff\u1000-\u109f\u1780-\u17ff]")
# Emoji (emoji-zwj-sequences.txt): what stands before a joiner, and what after it.
_ADULT, _HUMAN, _SIGN = "👨👩🧑", "👨👩🧑👦👧🧒", "♀♂"
_ACTIVE = "⛹🏃🏄🏊🏋🏌👮👯👰👱👳👷💁💂💆💇🕵🙅🙆🙇🙋🙍🙎🚣🚴🚵🚶🤦🤵🤷🤸🤹🤼🤽🤾🦸🦹🧍🧎🧏🧔🧖🧗🧘🧙🧚🧛🧜🧝🧞🧟👨👩🧑"
_REGISTERED = (
    (_ADULT, "⚕⚖✈🌾🍳🍼🎄🎓🎤🎨🏫🏭💻💼🔧🔬🚀🚒🦯🦰🦱🦲🦳🦼🦽🩰🤝❤🐰🫯"),
    (_HUMAN, _HUMAN),
    ("🤝❤💋🐰🫯", _ADULT),
    ("❤", "💋🔥🩹"),
    (_ACTIVE, _SIGN),
    ("👨👩🧑🏃🚶🧎🦯🦼🦽" + _SIGN, "➡"),
    ("🏳", "🌈⚧"),
    ("🏴", "☠"),
    ("🐈🐦", "⬛"),
    ("🐦", "🔥"),
    ("🐕", "🦺"),
    ("🐻", "❄"),
    ("👁", "🗨"),
    ("😮", "💨"),
    ("😵", "💫"),
    ("😶", "🌫"),
    ("🙂", "↔↕"),
    ("🍋", "🟩"),
    ("🍄", "🟫"),
    ("⛓", "💥"),
    ("🫆", "🟩"),
)
_PAIRS = frozenset(one + other for before, after in _REGISTERED for one in before for other in after)


def shows(text: str, at: int) -> bool:
    """Whether the joiner at this place changes what is seen."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if not before or not after:
        return False
    if _CLUSTERS.fullmatch(before) and _CLUSTERS.fullmatch(after):
        return _VIRAMA in {unicodedata.combining(before), unicodedata.combining(after)} or before in _SHIFTERS
    before, after = _letter(text, at, -1), _letter(text, at, 1)
    if text[at] == NON_JOINER:
        return bool(_JOINS_NEXT.fullmatch(before) and _JOINS_LAST.fullmatch(after))
    return before + after in _PAIRS


def _letter(text: str, at: int, step: int) -> str:
    """The nearest character on one side that is no mark, no selector and no colour of a skin."""
    at += step
    while 0 <= at < len(text) and (unicodedata.category(text[at]) == "Mn" or "\U0001f3fb" <= text[at] <= "\U0001f3ff"):
        at += step
    return text[at] if 0 <= at < len(text) else ""
