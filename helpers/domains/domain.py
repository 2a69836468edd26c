"""A `Domain`: the classes and concepts of one field, and the sentences around them. Pure text, no model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..files import read_table, stripped, write_text
from ..labels import words_of

SHIPPED = Path(__file__).parent
FEATURED = 9
"""How many concepts an explorer compares at first, where a domain does not say which."""

Words = Mapping[str, Any] | Sequence[str]
Texts = str | Sequence[str]


@dataclass(frozen=True, init=False, repr=False)
class Domain:
    """The classes and concepts of one field, each in several wordings, and the sentences that they stand in.

    Everything is checked when it is made, and friendlier kinds are taken: for classes and concepts a list of names
    (each its own wording), for wordings a single text, for a concept also `{"phrases": [...], "group": "..."}`.

    Attributes:
        name: of the field, e.g. "dermatology".
        classes: name → wordings: the answers among which `zero_shot` chooses. May be empty.
        concepts: name → wordings: what `annotate` asks for, one by one. May be empty.
        groups: concept → group, for concepts that are read beside each other (the shapes of a nucleus).
        templates: sentences with one {} for the classes; several are an ensemble.
        concept_templates: sentences with one {} for the concepts; by default those of the classes.
        references: prompts that a concept can be compared with: the same kind of picture without it ("a chest X-ray"),
            or with {} its denial ("no {}"). Several are an ensemble. May be empty.
        units: columns of a label table that say which pictures belong together, the widest first ("patient", "slide").
        featured: the concepts to begin with; the first nine by default.
        source: where classes and concepts come from.

    Raises:
        ValueError: an item that is no text or is empty, two that become the same tokens, a template without its one {},
            a group or featured concept that is not there. The message names the item and says what to do.
    """

    name: str
    classes: Mapping[str, tuple[str, ...]]
    concepts: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str]
    templates: tuple[str, ...]
    concept_templates: tuple[str, ...]
    references: tuple[str, ...]
    units: tuple[str, ...]
    featured: tuple[str, ...]
    source: str

    def __init__(
        self,
        name: str,
        *,
        classes: Words = (),
        concepts: Words = (),
        groups: Mapping[str, str] | None = None,
        templates: Texts = ("{}",),
        concept_templates: Texts = (),
        references: Texts = (),
        units: Texts = (),
        featured: Texts = (),
        source: str = "",
    ):
        name = _text(name, "The name of a domain")
        where = f"Domain {name!r}"
        if not isinstance(source, str):
            raise ValueError(f"{where}: source is a {type(source).__name__}, not a text: put quotes around it.")
        if groups is not None and not isinstance(groups, Mapping):
            raise ValueError(f"{where}, groups: give a mapping concept → group, not a {type(groups).__name__}.")
        ungrouped, own = _ungrouped(concepts, where)
        found = wordings(ungrouped, f"{where}, concepts")
        featured = _texts(featured, f"{where}, featured")
        checked = {
            "name": name,
            "classes": wordings(classes, f"{where}, classes"),
            "concepts": found,
            "groups": {
                _known(concept, found, f"{where}, groups"): _text(group, f"{where}, group of {concept!r}")
                for concept, group in {**own, **(groups or {})}.items()
            },
            "templates": _templates(templates, f"{where}, templates"),
            "concept_templates": _templates(concept_templates or templates, f"{where}, concept_templates"),
            "references": _references(references, f"{where}, references"),
            "units": _texts(units, f"{where}, units"),
            "featured": tuple(_known(c, found, f"{where}, featured") for c in featured) or tuple(found)[:FEATURED],
            "source": stripped(source),
        }
        if not checked["classes"] and not found:
            raise ValueError(f"{where} is empty: give it classes or concepts.")
        for key, value in checked.items():
            object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        return f"Domain({self.name!r}, {len(self.classes)} classes, {len(self.concepts)} concepts)"

    # --- ways to make one ---

    @classmethod
    def named(cls, name: str) -> Domain:
        """One of the domains that ship: `Domain.names()` lists them. Case, blanks and hyphens do not matter."""
        files = {_key(path.stem): path for path in SHIPPED.glob("*.yaml")}
        if not isinstance(name, str) or _key(name) not in files:
            raise ValueError(
                f"There is no domain {name!r}. Those that ship are {', '.join(map(repr, cls.names()))}; your own comes "
                "from Domain.from_yaml(file), Domain.from_table(table) or Domain(name, classes=…, concepts=…)."
            )
        return cls.from_yaml(files[_key(name)])

    @classmethod
    def names(cls) -> list[str]:
        """The domains that ship."""
        return [path.stem.replace("_", " ") for path in sorted(SHIPPED.glob("*.yaml"))]

    @classmethod
    def of(cls, what: Domain | Mapping[str, Any] | str | os.PathLike[str]) -> Domain:
        """A domain from whatever says which: a Domain, a dict, the name of one that ships, a YAML or CSV file."""
        if isinstance(what, cls):
            return what
        if isinstance(what, Mapping):
            return cls.from_dict(what)
        if isinstance(what, pd.DataFrame):
            return cls.from_table(what)
        if not isinstance(what, (str, os.PathLike)):
            raise TypeError(f"A domain is a Domain, a dict, a name or a file, not a {type(what).__name__}.")
        suffix = Path(what).suffix.lower()
        if suffix in (".yaml", ".yml"):
            return cls.from_yaml(what)
        if suffix in (".csv", ".tsv"):
            return cls.from_table(what)
        return cls.named(os.fspath(what))

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Domain:
        """From a dict whose keys are the attributes, as `to_dict` writes it."""
        known = list(cls.__dataclass_fields__)
        for key in entries:
            if key not in known:
                raise ValueError(f"A domain has no entry {key!r}. Its entries are {', '.join(known)}.")
        if entries.get("name") is None:
            raise ValueError("A domain needs a name: add the entry 'name'.")
        empty = [key for key, value in entries.items() if value is None]
        return cls(**{key: value for key, value in entries.items() if key not in empty})

    @classmethod
    def from_yaml(cls, file: str | os.PathLike[str]) -> Domain:
        """From a YAML file in UTF-8, as `to_yaml` writes it.

        Raises:
            ValueError: the file is not there or is no YAML of a domain, names a key twice; and as the class says.
        """
        file = Path(file)
        try:
            entries = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=_Loader)
        except OSError as error:
            raise ValueError(f"{file.name}: cannot be read ({error.strerror}). Check the path.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{file.name}: is not a text in UTF-8. Save it as UTF-8.") from error
        except yaml.YAMLError as error:
            raise ValueError(f"{file.name}: is no YAML ({error}). Mend that place.") from error
        if not isinstance(entries, Mapping):
            raise ValueError(f"{file.name}: holds no entries such as 'name:' and 'concepts:'. Write them, one a line.")
        try:
            return cls.from_dict(entries)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error

    @classmethod
    def from_table(cls, table: pd.DataFrame | str | os.PathLike[str], name: str | None = None, **others: Any) -> Domain:
        """From a table with one row a wording.

        Args:
            table: a DataFrame, or a CSV (TSV) in UTF-8, read as text. Columns: `concept`; `phrase`, a wording of it
                (without this column the concept's name is its wording); optionally `group`. Rows with a column `class`
                filled instead of `concept` are wordings of a class.
            name: of the domain; by default the file's name.
            others: further attributes, such as `templates`.

        Raises:
            ValueError: no column `concept` or `class`; a row with neither or both, or without a phrase (the row is
                named); and as the class says.
        """
        if not isinstance(table, pd.DataFrame):
            file = Path(table)
            name = name or file.stem
            table = read_table(file)
        words: dict[str, dict[str, list[str]]] = {"class": {}, "concept": {}}
        groups: dict[str, str] = {}
        if table.columns.nlevels > 1:
            raise ValueError("The table has several rows of columns' names. Keep one: table.droplevel(..., axis=1).")
        table = table.rename(columns=lambda column: str(column).strip())
        if not table.columns.is_unique:
            twice = table.columns[table.columns.duplicated()][0]
            raise ValueError(f"The table has two columns {twice!r}. Rename or remove one of them.")
        kinds = [kind for kind in words if kind in table.columns]
        if not kinds:
            raise ValueError(
                f"The table has no column 'concept'. It has: {', '.join(map(repr, table.columns))}. Rename the one "
                "that holds the concepts' names."
            )
        if unread := [column for column in table.columns if column not in (*words, "phrase", "group")]:
            warnings.warn(
                f"The table's columns {', '.join(map(repr, unread))} are not read; read are 'concept' or 'class', "
                "'phrase' and 'group'.",
                stacklevel=2,
            )
        for number, row in enumerate(table.to_dict("records"), start=1):
            cells = {key: "" if value is None or value != value else value for key, value in row.items()}
            given = [kind for kind in kinds if str(cells[kind]).strip()]
            if not any(str(value).strip() for value in cells.values()):
                continue  # a row of nothing but commas
            if len(given) != 1:
                raise ValueError(f"Row {number} of the table names {len(given)} of {kinds}: fill in exactly one.")
            [kind] = given
            key = _text(cells[kind], f"Row {number}, column {kind!r}")
            phrase = _text(cells.get("phrase", key), f"Row {number}, column 'phrase' of {key!r}")
            words[kind].setdefault(key, []).append(phrase)
            if kind == "concept" and str(cells.get("group", "")).strip():
                group = _text(cells["group"], f"Row {number}, column 'group'")
                if groups.setdefault(key, group) != group:
                    raise ValueError(f"Row {number}: {key!r} is in group {groups[key]!r} above and {group!r} here.")
        return cls(name or "table", classes=words["class"], concepts=words["concept"], groups=groups, **others)

    # --- and to write it down ---

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and strings, for JSON or YAML; what is empty or as by default is left out."""
        concepts: dict[str, Any] = {}
        for concept, phrases in self.concepts.items():
            concepts[concept] = _plain(concept, phrases)
            if concept in self.groups:
                concepts[concept] = {"phrases": list(phrases), "group": self.groups[concept]}
        entries: dict[str, Any] = {
            "name": self.name,
            "source": self.source,
            "classes": {name: _plain(name, words) for name, words in self.classes.items()},
            "concepts": concepts,
            "templates": list(self.templates),
            "concept_templates": list(self.concept_templates) if self.concept_templates != self.templates else [],
            "references": list(self.references),
            "units": list(self.units),
            "featured": list(self.featured) if self.featured != tuple(self.concepts)[:FEATURED] else [],
        }
        return {key: value for key, value in entries.items() if value}

    def to_yaml(self, file: str | os.PathLike[str] | None = None) -> str:
        """The domain as YAML, which `from_yaml` reads back equal; written to `file` if one is given."""
        text: str = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=110)
        if file is not None:
            write_text(file, text)
        return text

    # --- and to look things up ---

    def find(self, text: str, among: str = "concepts") -> str | None:
        """The class or concept that a text means: its name or one of its wordings, compared as a tokenizer reads them.

        Args:
            text: what stands in somebody's table.
            among: "classes" or "concepts".

        Returns:
            the name, or None where the domain has nothing of that kind.
        """
        entries: Mapping[str, Sequence[str]] = {"classes": self.classes, "concepts": self.concepts}[among]
        wanted = words_of(text)
        names = {words_of(name): name for name in entries}
        return names.get(wanted) or {words_of(w): name for name, words in entries.items() for w in words}.get(wanted)


# --- checks -----------------------------------------------------------------------------------------------------------


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: {value!r} is a {type(value).__name__}, not a text. Write it in words, between quotes where a "
            "file would read a number or a yes."
        )
    if not words_of(value):
        raise ValueError(f"{where}: {value!r} is empty, there is nothing to read. Leave it out or write a word.")
    return stripped(value)


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    if isinstance(values, Mapping):
        raise ValueError(f"{where}: give a text or a list of texts, not a {type(values).__name__}.")
    texts = tuple(_text(value, where) for value in values)
    seen: dict[str, str] = {}
    for text in texts:
        if (words := words_of(text)) in seen:
            raise ValueError(f"{where}: {seen[words]!r} and {text!r} are read as the same words. Keep one of them.")
        seen[words] = text
    return texts


def wordings(entries: Words, where: str) -> dict[str, tuple[str, ...]]:
    """Names with their wordings, checked: what becomes the same tokens could not be told apart by any model.

    Args:
        entries: names, each its own wording; or name → wording or wordings.
        where: what messages call them, e.g. "classes".

    Raises:
        ValueError: a name or wording that is no text, is empty or has no letter, or is read as the same words as
            another's.
    """
    if isinstance(entries, pd.DataFrame):
        raise ValueError(f"{where}: give one column of that table, or make a domain of it with Domain.from_table.")
    if isinstance(entries, str):
        raise ValueError(f"{where}: give a list of names or a mapping name → wordings, not one text ({entries!r}).")
    if not isinstance(entries, Mapping):
        entries = {name: name for name in _texts(entries, where)}
    names = _texts(list(entries), where)
    found = {name: _texts(words, f"{where}, {name!r}") for name, words in zip(names, entries.values(), strict=True)}
    owner: dict[str, tuple[str, str]] = {}
    for name, words in found.items():
        if not words:
            raise ValueError(f"{where}: {name!r} has no wording. Write at least one, such as the name itself.")
        for word in words:
            if not any(sign.isalpha() for sign in word):
                raise ValueError(
                    f"{where}: {word!r} has no letter, and a model that reads words finds nothing in it. Say in words "
                    f"what it stands for: {{{name!r}: 'the words'}}."
                )
            other, said = owner.setdefault(words_of(word), (name, word))
            if other != name:
                raise ValueError(
                    f"{where}: {said!r} of {other!r} and {word!r} of {name!r} are read as the same words: their "
                    "prompts cannot be told apart. Word one of them otherwise."
                )
    return found


def _ungrouped(concepts: Any, where: str) -> tuple[Any, dict[str, str]]:
    """Concepts as name → wordings, and the groups that stood beside them."""
    if not isinstance(concepts, Mapping):
        return concepts, {}
    words: dict[str, Any] = {}
    groups: dict[str, str] = {}
    for name, entry in concepts.items():
        if not isinstance(entry, Mapping):
            words[name] = name if entry is None else entry  # in YAML: a name with nothing behind its colon
            continue
        for key in entry:
            if key not in ("phrases", "group"):
                raise ValueError(f"{where}, {name!r}: no entry {key!r}. There are 'phrases' and 'group'.")
        words[name] = entry.get("phrases", name)
        if entry.get("group") is not None:
            groups[name] = entry["group"]
    return words, groups


def _templates(values: Any, where: str) -> tuple[str, ...]:
    templates = _texts(values, where)
    if not templates:
        raise ValueError(f"{where}: there is none. Leave the entry out, or write one such as '{{}}'.")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"{where}: {template!r} must have exactly one {{}}, the place of the words.")
    return templates


def _references(values: Any, where: str) -> tuple[str, ...]:
    references = _texts(values, where)
    for reference in references:
        if reference.count("{}") > 1 or reference == "{}":
            raise ValueError(
                f"{where}: {reference!r} must be a prompt without the concept, or its denial with one {{}} ('no {{}}')."
            )
    return references


def _known(name: Any, concepts: Mapping[str, Any], where: str) -> str:
    name = _text(name, where)
    if name not in concepts:
        raise ValueError(f"{where}: there is no concept {name!r}. Add it to the concepts, or take it away here.")
    return name


def _plain(name: str, words: Sequence[str]) -> str | list[str]:
    return words[0] if len(words) == 1 else list(words)


def _key(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key which stands twice: the plain loader keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, bool, int, float, type(None))):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
