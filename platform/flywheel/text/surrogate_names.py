"""Made-up names that stand in for real ones: no gender, no origin, and hardly anybody's own."""

from __future__ import annotations

from typing import Final

SURROGATE_NAMES: Final[tuple[str, ...]] = tuple(
    """
    Adaver Adelin Adimar Adorel Aldavey Alderin Bexamer Bexolin Bravimar Bravorel Brielan Brinewin Brinimar Brisolin
    Caldamer Calewin Calidan Calorel Corimar Corisan Corvelis Dalorin Darimel Davewin Deromar Dorelis Doridan Dorsavey
    Elbrisan Eldamer Eldewin Eldolin Elvorin Embrelis Endorel Evimar Falorin Farimel Fenavey Fenewin Fenidan Fenorel
    Galimar Garavey Garelin Garolis Glenorin Halimer Haravey Harewin Hesolin Holamer Holidan Holorel Idoran Ilsavey
    Imarel Indolis Irvolin Isavey Isimar Isorel Jadorin Jalimer Jesavey Jesewin Jesolin Jorimel Jorvelis Kaldorin
    Kalewin Kelavey Keldamer Kelidan Kerimar Kiravey Kirolin Kirsewin Lalorin Larimel Lavorel Lenavey Lenimar Linewin
    Linorel Lorsavey Lovelis Malorin Marivey Marsolin Melewin Meravel Merimar Merolin Nalidan Naravey Nelorin Nevolis
    Norewin Norimar Norsolin Olavey Olimer Orelin Orsewin Osidan Osolin Palorin Paravey Pelewin Perimar Persolin
    Quelorin Quilavey Quilewin Quilimar Ralorin Ravelis Relavey Renimar Renolis Rilewin Risorel Rolavey Rovelin
    Sabrewin Salorin Saravel Selimar Selvolin Sevorin Sidavey Silewin Solavey Sorimar Sorvelis Taldorin Talewin Talimar
    Taravey Telorin Tersolin Tolavey Tolimer Torvelis Ulavey Ulewin Ulidan Ulorel Valorin Varimel Velavey Velewin
    Verimar Versolin Vilorel Voravey Walimer Waravey Welewin Welorin Wilsavey Winimar Winorel Worsolin Yalorin Yaravey
    Yelewin Yelimar Yorsolin Zalorin Zaravel Zelewin Zelimar Zerolin Zorvelis
    """.split()  # noqa: SIM905  (a literal of 180 quoted words would hide them)
)
"""First and last names alike; a name of two words gets two of them."""
