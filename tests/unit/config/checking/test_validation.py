from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from moesim.config.checking.validation import validate
from moesim.config.checking.words import spelled_out
from moesim.config.errors import InputError
from moesim.config.oneof import OneOf
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import compose


class Animal(Params):
    legs: int = 4


class Cat(Animal):
    kind: Literal["cat"] = "cat"
    lives: int = Field(default=9, ge=1, le=9)


class Dog(Animal):
    kind: Literal["dog"] = "dog"


class Zoo:
    components: ClassVar = {"cat": Cat, "dog": Dog}

    def why_missing(self, kind: str) -> str:
        return ""


class House(Params):
    street: str = Field(min_length=1, description="Where it stands.")
    pet: Annotated[Animal, OneOf(Zoo())] = Cat()
    number: int = Field(default=1, gt=0)
    height: float = 3.0
    sold: bool = False
    colours: tuple[Literal["red", "blue"], ...] = ()
    rooms: dict[str, int] = Field(default={})
    doors: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1,), min_length=1)
    owner: str | None = None


def read(text):
    return validate(spelled_out(compose(text, "h.yaml"), House), House)


def test_a_valid_document():
    house = read("street: x\npet: {kind: dog, legs: 3}\nheight: 4\ncolours: [red]\nrooms: {a: 2}")
    assert house.pet == Dog(legs=3)
    assert (house.height, house.colours, house.rooms) == (4.0, ("red",), {"a": 2})


@pytest.mark.parametrize(
    ("text", "place", "path", "words"),
    [
        ("pet: {kind: cat}", "1:1", "street", "is missing; write it: Where it stands."),
        ("street: x\nstreat: y", "2:1", "streat", "did you mean 'street'?"),
        ("street: 3", "1:9", "street", "3 is a number; text is expected"),
        ("street:", "1:1", "street", "is empty; text is expected"),
        ("street: ''", "1:9", "street", "'' is too short; 1 character or more"),
        ("street: x\nnumber: '3'", "2:9", "number", "'3' is text; a whole number is expected"),
        ("street: x\ndoors: []", "2:8", "doors", "[] is too short; 1 or more values are needed"),
        ("street: x\ndoors: [0]", "2:9", "doors.0", "0 is too small; 1 or more is allowed"),
        ("street: x\nnumber: 2.5", "2:9", "number", "2.5 is a number; a whole number"),
        ("street: x\nnumber: true", "2:9", "number", "true is a truth value; a whole number"),
        ("street: x\nnumber: 0", "2:9", "number", "0 is too small; more than 0"),
        ("street: x\nheight: tall", "2:9", "height", "'tall' is text; a number is expected"),
        ("street: x\nheight: .nan", "2:9", "height", "finite number"),
        ("street: x\nsold: no", "2:7", "sold", "'no' is text; true or false is expected"),
        ("street: x\ncolours: red", "2:10", "colours", "a list is expected, as in [red]"),
        ("street: x\ndoors: 2", "2:8", "doors", "2 is a number; a list is expected, as in [2]"),
        ("street: x\ndoors: {a: 1}", "2:8", "doors", "a list is expected, as in [a, b]"),
        ("street: x\ncolours: [red, bleu]", "2:16", "colours.1", "did you mean 'blue'?"),
        ("street: x\nrooms: {a: b}", "2:12", "rooms.a", "a whole number is expected"),
        ("street: x\npet: cow", "2:6", "pet.kind", "'cow' is not known; allowed: cat"),
        ("street: x\npet: [cat]", "2:6", "pet", "is a list; keys with values are expected"),
        ("street: x\npet: {}", "2:6", "pet.kind", "is missing; allowed: cat, dog"),
        ("street: x\npet: {kind: }", "2:7", "pet.kind", "is missing; allowed: cat, dog"),
        ("street: x\npet: {kind: [cat]}", "2:13", "pet.kind", "allowed: cat, dog"),
        ("street: x\npet: {kind: cow}", "2:13", "pet.kind", "'cow' is not known; allowed: cat"),
        ("street: x\npet: {kind: dog, lives: 9}", "2:18", "pet.lives", "allowed: kind, legs"),
        ("street: x\npet: {kind: cat, lives: 10}", "2:25", "pet.lives", "9 or less"),
        ("street: x\npet: {kind: cat, cat: 1}", "2:18", "pet.cat", "not a known key"),
        ("[street]", "1:1", "", "is a list; keys with values are expected"),
    ],
)
def test_each_mistake_has_its_place_path_and_words(text, place, path, words):
    with pytest.raises(InputError) as error:
        read(text)
    (problem,) = error.value.problems
    assert (problem.where, problem.path) == (f"h.yaml:{place}", path)
    assert words in problem.what


def test_all_mistakes_come_by_line():
    with pytest.raises(InputError) as error:
        read("nmber: 1\npet: {kind: cow}\nsold: 1\nsold: 2")
    assert [problem.where for problem in error.value.problems] == [
        "h.yaml:1:1",
        "h.yaml:1:1",
        "h.yaml:2:13",
        "h.yaml:3:7",
        "h.yaml:4:1",
    ]
