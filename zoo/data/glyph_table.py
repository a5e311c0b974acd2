"""How digits and capitals are built from strokes, and who writes them: our own, from no font.

A glyph is strokes separated by `|`; a stroke is a chain of points `x,y` and arcs
`cx,cy,rx,ry,from,to` joined by straight lines. y runs down from 0 (cap height) to 1 (baseline),
x from 0 to the glyph's own width. Angles are degrees, 0 to the right, 90 down; an arc runs from
`from` to `to`, so its order says which way the pen goes. `7 bar` is another construction of `7`,
which a typeface may name among its forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GLYPHS: dict[str, str] = {
    "0": ".3,.5,.3,.5,-90,270",
    "0 slash": ".3,.5,.3,.5,-90,270 | .15,.76 .45,.24",
    "0 dot": ".3,.5,.3,.5,-90,270 | .3,.46 .3,.54",
    "1": "0,.24 .27,0 .27,1",
    "1 foot": "0,.22 .25,0 .25,1 | .02,1 .48,1",
    "1 stick": ".06,.12 .2,0 .2,1",
    "2": ".3,.28,.29,.28,-165,40 0,1 .6,1",
    "2 curl": ".3,.28,.29,.28,-165,40 .08,.94 .06,.98 .3,.88 .44,1 .62,.92",
    "3": ".28,.25,.26,.25,-150,80 .2,.48 .28,.74,.3,.26,-80,150",
    "3 flat": "0,0 .56,0 .26,.4 .27,.7,.31,.3,-90,150",
    "4": ".46,1 .46,0 0,.7 .64,.7",
    "4 open": ".12,0 0,.6 .62,.6 | .44,.3 .44,1",
    "5": ".54,0 .09,0 .05,.47 .28,.68,.3,.32,-140,140",
    "6": ".48,.69,.47,.69,-80,-180 .3,.69,.29,.31,180,-180",
    "6 straight": ".42,0 .08,.5 .3,.69,.29,.31,200,-160",
    "7": "0,0 .58,0 .2,1",
    "7 bar": "0,0 .58,0 .22,1 | .12,.5 .56,.5",
    "7 curve": "0,.1 0,0 .58,0 .68,1,.46,.62,220,180",
    "8": ".3,.25,.25,.25,-90,270 | .3,.745,.3,.255,-90,270",
    "8 cross": ".3,.24,.26,.24,-20,-215 .46,.56 .3,.76,.3,.24,-30,205 .14,.56 .56,.2",
    "9": ".12,.31,.47,.69,100,0 .3,.31,.29,.31,0,360",
    "9 straight": ".18,1 .52,.5 .3,.31,.29,.31,20,380",
    "A": "0,1 .36,0 .72,1 | .13,.64 .59,.64",
    "A round": "0,1 0,.4 .33,.4,.33,.4,-180,0 .66,.4 .66,1 | 0,.6 .66,.6",
    "B": "0,0 0,1 | 0,0 .3,0 .3,.24,.26,.24,-90,90 0,.48 | .3,.48 .32,.74,.3,.26,-90,90 0,1",
    "C": ".38,.5,.38,.5,-46,-314",
    "D": "0,0 0,1 | 0,0 .28,0 .28,.5,.42,.5,-90,90 0,1",
    "E": "0,0 0,1 | 0,0 .56,0 | 0,.48 .48,.48 | 0,1 .58,1",
    "E round": ".3,.25,.3,.25,-30,-260 .44,.5 | .22,.5 .3,.75,.3,.25,-100,-330",
    "F": "0,0 0,1 | 0,0 .56,0 | 0,.5 .48,.5",
    "G": ".38,.5,.38,.5,-46,-360 .42,.5",
    "G spur": ".38,.5,.38,.5,-46,-310 | .44,.56 .72,.56 .72,1",
    "H": "0,0 0,1 | .66,0 .66,1 | 0,.48 .66,.48",
    "I": "0,0 0,1",
    "I bars": "0,0 .4,0 | .2,0 .2,1 | 0,1 .4,1",
    "J": ".44,0 .44,.72 .22,.72,.22,.28,0,165",
    "J bar": ".16,0 .6,0 | .44,0 .44,.72 .22,.72,.22,.28,0,165",
    "K": "0,0 0,1 | .6,0 0,.62 | .2,.42 .64,1",
    "K arms": "0,0 0,1 | 0,.5 .16,.5 .6,0 | .16,.5 .62,1",
    "L": "0,0 0,1 | 0,1 .54,1",
    "M": "0,1 0,0 .4,.72 .8,0 .8,1",
    "M splayed": "0,1 .14,0 .44,.8 .74,0 .88,1",
    "N": "0,1 0,0 .66,1 .66,0",
    "O": ".4,.5,.4,.5,-90,270",
    "P": "0,0 0,1 | 0,0 .3,0 .3,.27,.3,.27,-90,90 0,.54",
    "Q": ".4,.5,.4,.5,-90,270 | .46,.68 .8,1.04",
    "Q tail": ".4,.47,.4,.47,-90,270 | .36,.94 .5,1.12 .84,1.12",
    "R": "0,0 0,1 | 0,0 .3,0 .3,.27,.3,.27,-90,90 0,.54 | .28,.54 .62,1",
    "S": ".32,.26,.29,.26,-25,-245 .32,.755,.32,.245,-65,155",
    "T": "0,0 .68,0 | .34,0 .34,1",
    "U": "0,0 0,.66 .33,.66,.33,.34,180,0 .66,0",
    "V": "0,0 .34,1 .68,0",
    "W": "0,0 .24,1 .48,.14 .72,1 .96,0",
    "W crossed": "0,0 .28,1 .58,0 | .38,0 .68,1 .96,0",
    "X": "0,0 .66,1 | .66,0 0,1",
    "Y": "0,0 .34,.5 .68,0 | .34,.5 .34,1",
    "Y cup": "0,0 0,.25 .31,.25,.31,.3,180,0 .62,0 | .31,.55 .31,1",
    "Z": "0,0 .6,0 0,1 .62,1",
    "Z bar": "0,0 .6,0 0,1 .62,1 | .1,.5 .52,.5",
}


@dataclass(frozen=True, slots=True)
class Typeface:
    """A pen and its habits; lengths in cap heights, angles in degrees.

    pen: half width of the thickest stroke. contrast: thinnest stroke / thickest; nib: angle of the
    broad pen's edge (0 makes verticals thick, 90 horizontals). ends: stroke ends / middle (below 1
    tapers, above 1 flares). cap: how strokes end. curve: superellipse exponent (2 ellipse, more is
    squarer); facets: straight pieces per quarter turn. waist: height of the middle, as exponent.
    serif: half length; serif_pen: its half thickness. wobble: of an unsteady hand. forms: other
    constructions, keys of GLYPHS.
    """

    name: str
    pen: float = 0.07
    contrast: float = 1.0
    nib: float = 0.0
    ends: float = 1.0
    cap: Literal["round", "square"] = "round"
    width: float = 1.0
    slant: float = 0.0
    curve: float = 2.0
    facets: int = 6
    waist: float = 1.0
    serif: float = 0.0
    serif_pen: float = 0.03
    wobble: float = 0.0
    style: Literal["plain", "outline", "inline", "stencil", "beads"] = "plain"
    forms: tuple[str, ...] = ()


TRAIN_TYPEFACES: tuple[Typeface, ...] = (
    Typeface("round-sans", pen=0.075),
    Typeface("grotesk", pen=0.11, cap="square", curve=2.5, forms=("G spur", "K arms")),
    Typeface("hairline", pen=0.035, width=1.08, waist=1.25, forms=("1 stick", "M splayed")),
    Typeface("roman", 0.08, 0.42, nib=12, serif=0.13, forms=("1 foot", "Q tail", "J bar")),
    Typeface("didone", 0.1, 0.3, serif=0.12, serif_pen=0.032, forms=("1 foot", "7 curve")),
    Typeface("octagon", pen=0.07, width=1.1, curve=5, facets=3, cap="square", forms=("0 slash",)),
    Typeface("squared", pen=0.06, curve=4.5, width=1.1, forms=("A round", "4 open", "0 dot")),
    Typeface(
        "hand", 0.05, ends=0.7, wobble=0.03, slant=0.12,
        forms=("7 bar", "4 open", "Z bar", "8 cross", "6 straight", "9 straight", "Y cup"),
    ),
    Typeface("quill", 0.085, 0.35, nib=-35, ends=0.85, forms=("2 curl", "E round", "W crossed")),
    Typeface("poster", pen=0.125, width=1.15, curve=2.8, style="inline", forms=("3 flat",)),
    Typeface("narrow", pen=0.07, width=0.72, curve=3, waist=0.85, forms=("1 foot", "G spur")),
    Typeface("stencil", pen=0.1, width=1.12, cap="square", style="stencil", forms=("3 flat",)),
    Typeface("beads", pen=0.052, style="beads", forms=("I bars", "0 slash", "7 bar")),
)  # fmt: skip

TEST_TYPEFACES: tuple[Typeface, ...] = (
    Typeface(
        "slab", pen=0.075, cap="square", curve=2.4, serif=0.17, serif_pen=0.06,
        forms=("1 foot", "J bar", "7 bar"),
    ),
    Typeface("italic-nib", 0.09, 0.3, nib=-25, slant=0.26, width=0.9, forms=("7 curve",)),
    Typeface("outline", pen=0.095, width=1.1, style="outline", forms=("G spur", "4 open")),
    Typeface("condensed", pen=0.1, width=0.7, cap="square", curve=4, forms=("1 stick", "3 flat")),
)  # fmt: skip
