"""What is *not* in a picture of blood: words that no caption of a cell uses, and denials.

Half of all words are kept out of training, so that the other half can be graded as words never seen: the hash of a word
says on which side it stands (:func:`is_test_word`). ``foreign_test_words.txt``, where it exists, names words that are
graded whatever their hash.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from helpers.bloodcells import CONCEPTS, TEMPLATES

from .tokenizer import VOCABULARY

TEST_WORDS = Path(__file__).with_name("foreign_test_words.txt")

THINGS = """
dog, cat, horse, cow, sheep, goat, pig, rabbit, mouse, rat, squirrel, fox, wolf, bear, lion, tiger, elephant, giraffe,
zebra, monkey, kangaroo, camel, deer, whale, dolphin, shark, salmon, goldfish, octopus, crab, lobster, snail, spider,
ant, bee, butterfly, mosquito, beetle, worm, snake, lizard, crocodile, turtle, frog, chicken, duck, goose, owl, eagle,
parrot, penguin, sparrow, bird, fish, insect, car, bus, truck, train, tram, bicycle, motorcycle, airplane, helicopter,
ship, boat, sailboat, submarine, tractor, rocket, wheel, bridge, road, street, highway, traffic light, airport,
harbour, house, castle, church, temple, tower, skyscraper, barn, tent, window, door, stairs, roof, kitchen, bathroom,
bedroom, garden, park, beach, mountain, volcano, river, lake, waterfall, ocean, island, desert, forest, meadow, sky,
cloud, rainbow, sunset, moon, planet, galaxy, snow, rain, lightning, fire, smoke, rock, sand, tree, oak, palm tree,
rose, tulip, sunflower, cactus, mushroom, grass, leaf, apple, banana, lemon, cherry, strawberry, grape, pineapple,
watermelon, tomato, potato, carrot, onion, bread, cheese, pizza, hamburger, cake, ice cream, chocolate, coffee, tea,
wine, beer, milk, egg, rice, soup, salad, sandwich, sushi, table, chair, sofa, bed, lamp, mirror, clock, book,
newspaper, pencil, scissors, hammer, screwdriver, umbrella, bottle, cup, plate, fork, spoon, knife, computer,
keyboard, telephone, television, camera, guitar, piano, violin, drum, trumpet, football, tennis racket, basketball,
skateboard, surfboard, bicycle helmet, hat, shoe, shirt, dress, jacket, glove, necklace, watch, glasses, wallet,
suitcase, backpack, man, woman, child, baby, teacher, policeman, soldier, king, dancer, crowd, face, hand, foot, eye,
ear, nose, mouth, tooth, hair, beard, smile, wedding, birthday party, concert, stadium, circus, toy, doll, teddy bear,
robot, balloon, kite, candle, money, coin, map, flag, statue, painting, sculpture, poster, stamp, ticket, passport,
letter, alphabet, crossword, chess board, playing card, dice, puzzle, snowman, pumpkin, christmas tree, fireworks,
campfire, ladder, rope, chain, lock, key, box, basket, bucket, barrel, brick, fence
"""

MEDICINE = """
melanoma, nevus, mole, basal cell carcinoma, squamous cell carcinoma, psoriasis, eczema, acne, wart, skin lesion,
dermoscopy, rash, scar, burn, wound, pneumonia, chest x-ray, lung nodule, pleural effusion, pneumothorax,
tuberculosis, cardiomegaly, rib fracture, bone fracture, hip implant, scoliosis, mammogram, breast mass,
calcification, brain tumor, glioma, stroke, haemorrhage, ct scan, mri, ultrasound, fetus, gallstone, kidney stone,
liver cyst, spleen, pancreas, stomach, colon polyp, endoscopy, ulcer, appendix, bladder, prostate, uterus, ovary,
retina, optic disc, macula, fundus photograph, diabetic retinopathy, glaucoma, cataract, cornea, heart, aorta,
coronary artery, valve, electrocardiogram, angiogram, muscle, tendon, cartilage, spine, vertebra, skull, femur,
pelvis, shoulder, elbow, knee, finger, toe, nail, tongue, tonsil, thyroid, larynx, trachea, bronchus, oesophagus,
hepatocyte, adipocyte, neuron, astrocyte, glomerulus, villus, alveolus, crypt, collagen, keratin, epithelium, squamous
epithelium, goblet cell, gland, duct, adenocarcinoma, sarcoma, metastasis, mitosis, necrosis, fibrosis, oedema,
abscess, granuloma, biopsy, histology of the colon, pap smear, sperm, sickle cell, spherocyte, schistocyte, target
cell, malaria parasite, plasmodium, trypanosome, blast, leukemia, lymphoma, plasma cell, megakaryocyte, macrophage,
mast cell, fibroblast, stem cell, yeast, bacteria, virus, amoeba, pollen, crystal, urine sediment, bone marrow, lymph
node, auer rod, toxic granulation, smudge cell, erythroblast, reticulocyte, heinz body, fluorescence microscopy,
electron micrograph, gram stain, plant cell, onion skin, dental caries, implant, pacemaker, stent, catheter, needle,
syringe, stethoscope, wheelchair, hospital bed, surgeon, nurse, operation, bandage, pill
"""

_WORDS_OF_OURS = "red, blue, purple, pink, big, small, round, irregular, large, pale, white, light blue, dense, clear"

DENIALS = (
    "no {}",
    "no {}",
    "without {}",
    "without any {}",
    "absence of {}",
    "absent {}",
    "{} is absent",
    "{} are absent",
    "no sign of {}",
    "no signs of {}",
    "there is no {}",
    "there are no {}",
    "{} not seen",
    "{} is not seen",
    "no {} seen",
    "no visible {}",
    "no {} visible",
    "lacks {}",
    "lacking {}",
    "lack of {}",
    "{} is missing",
    "{} not present",
    "{} is not present",
    "no {} present",
    "not {}",
    "free of {}",
    "devoid of {}",
    "no evidence of {}",
    "{} cannot be seen",
    "it has no {}",
    "a cell without {}",
    "a picture without {}",
    "does not show {}",
)
"""Ways to say that something is not there."""

DRAWN_WORDS = "texture noise circle circles letters lines colors object objects"
_CONSONANTS, _VOWELS = list("bcdfghjklmnpqrstvwxyz"), list("aeiou")


@cache
def _listed() -> frozenset[str]:
    """Every word of the listed phrases, but for the short ones that any phrase may have ("a", "an", "of")."""
    lines = TEST_WORDS.read_text("utf-8").lower().splitlines() if TEST_WORDS.exists() else []
    phrases = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return frozenset(phrases) | {word for phrase in phrases for word in re.findall(r"[a-z]{3,}", phrase)}


def is_test_word(word: str) -> bool:
    """Whether a word or a phrase is kept for grading: a word of it is listed, or its SHA-256 begins with a 0 bit."""
    word = word.lower().strip()
    if any(part in _listed() for part in (word, *re.findall(r"[a-z]+", word))):
        return True
    return hashlib.sha256(word.encode()).digest()[0] < 128


@cache
def own_words() -> set[str]:
    """Every word of the captions, and what belongs to blood and to describing pictures: none of them is foreign."""
    lines = [line for line in VOCABULARY.read_text("utf-8").splitlines() if not line.startswith("#")]
    described = [line for line in lines if not line.startswith(("dog ", "retina ", "near "))]
    texts = [phrase for concept in CONCEPTS.values() for phrase in concept.phrases] + list(TEMPLATES) + described
    words = set(re.findall(r"[a-zé]+", " ".join(texts).lower()))
    return words | {word + "s" for word in words} | {word[:-1] for word in words if word.endswith("s")}


@cache
def foreign_words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(things and medicine, plain English words of Python's own manual) to train on; test words are left out."""
    named = [" ".join(word.split()) for word in f"{THINGS},{MEDICINE}".split(",") if word.strip()]
    english = set(re.findall(r"\b[a-z]{4,12}\b", " ".join(topics[key] for key in sorted(topics)).lower()))
    # Of pictures without a cell some are textures, circles, lines or letters.
    english -= own_words() | set(DRAWN_WORDS.split())
    return (
        tuple(word for word in named if not is_test_word(word)),
        tuple(sorted(word for word in english if not is_test_word(word))),
    )


def neutral_words() -> list[str]:
    """Words that say nothing of what is in a picture ("here", "which", "please"): any caption may contain them."""
    lines = [line for line in VOCABULARY.read_text("utf-8").splitlines() if not line.startswith("#")]
    kept = [line for line in lines if line.startswith(("the a", "there here", "picture photo", "example", "please"))]
    out = "no not without absent absence presence zero empty healthy abnormal normal sick background"
    out += " drawing painting scan view"
    return [word for line in kept for word in line.split() if word not in out.split()]


def foreign_phrase(rng: np.random.Generator) -> str:
    """A phrase that is true of no picture of blood."""
    named, english = foreign_words()
    kind = rng.random()
    if kind < 0.42:
        phrase = named[rng.integers(len(named))]
    elif kind < 0.66:
        phrase = " ".join(english[i] for i in rng.integers(len(english), size=rng.integers(1, 3)))
    elif kind < 0.76:
        ours = _WORDS_OF_OURS.split(", ")
        phrase = f"{ours[rng.integers(len(ours))]} {named[rng.integers(len(named))]}"
    elif kind < 0.9:  # a word that does not exist
        count = int(rng.integers(1, 5))
        phrase = "".join(
            _CONSONANTS[rng.integers(21)]
            + _VOWELS[rng.integers(5)]
            + (_CONSONANTS[rng.integers(21)] * (rng.random() < 0.3))
            for _ in range(count)
        )
    else:
        signs = list("abcdefghijklmnopqrstuvwxyz0123456789")
        phrase = "".join(signs[i] for i in rng.integers(len(signs), size=rng.integers(1, 9)))
    if phrase in own_words():
        return foreign_phrase(rng)
    if kind < 0.76 and rng.random() < 0.4:
        article = "the" if rng.random() < 0.2 else "an" if phrase[0] in "aeiou" else "a"
        phrase = f"{article} {phrase}"
    return phrase


def denied(rng: np.random.Generator, phrase: str) -> str:
    """A phrase denied, in one of many wordings."""
    return DENIALS[rng.integers(len(DENIALS))].format(phrase)
