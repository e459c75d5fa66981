"What a drawn chart holds, read from its SVG."

import re

import vl_convert

from transfer_study.figures.theme import with_theme


def svg(chart) -> str:
    return vl_convert.vegalite_to_svg(with_theme(chart).to_dict())


def texts(picture: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


def marks(picture: str, kind: str) -> int:
    "Marks of a kind that were drawn: elements with that role description."
    return len(re.findall(rf'aria-roledescription="{kind}"', picture))


def n_places(picture: str) -> list[tuple[float, str]]:
    "Place along the x axis and text of each label of the first axis."
    labels = re.search(r"role-axis-label.*?</g>", picture, re.S).group()
    return [(float(x), text) for x, text in re.findall(r'translate\(([-\d.]+),[-\d.]+\)"[^>]*>([^<]+)</text>', labels)]
