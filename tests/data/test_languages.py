"""The language of texts by their characters and function words, and words of texts in any language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.config.arguments import DataArguments
from sentiment.data.languages import SCRIPTS, choose_language, find_language, find_words, has_spaces
from sentiment.exceptions import InputError

REVIEWS = {
    "en": [
        "this film is a charming and often affecting journey , but the ending is not that good",
        "I loved it! The actors are great, and the music too. You should see this with your family.",
        "It doesn't work. NOT WORTH THE MONEY!!! they promised that it was funny",
    ],
    "zh": ["这部电影很好看\uff0c演员也很棒。", "不值得看iPhone 12拍的movie\uff0c浪费时间", "劇情很無聊😀"],
    "ja": ["とても良い映画でした。", "ストーリーが退屈で、途中で寝てしまった", "最高の作品\uff01"],
    "th": ["หนังเรื่องนี้ดีมาก", "ไม่สนุกเลย เสียเวลา"],
    "lo": ["ຮູບເງົານີ້ດີຫຼາຍ"],
    "my": ["ဒီရုပ်ရှင်က အရမ်းကောင်းတယ်"],
    "km": ["ភាពយន្តនេះល្អណាស់"],
    "bo": ["གློག་བརྙན་འདི་ཡག་པོ་འདུག"],
}
OTHERS = {
    "de": "Der Film ist nicht gut, aber die Musik war toll und die Schauspieler sind in Form. Was man so will.",
    "nl": "De film is niet goed, maar de muziek is mooi en het einde is of raar of te lang. Dit was het.",
    "fr": "Le film est long mais on ne s'ennuie pas, et la fin est a couper le souffle. Je me suis bien amuse.",
    "es": "La pelicula no es buena, pero los actores son de lo mejor y la musica me ha gustado a mi.",
    "it": "Il film non e bello, ma gli attori sono bravi e la musica mi piace. Ho riso come un matto.",
    "pt": "O filme nao e bom, mas os atores sao otimos e a musica e de chorar. As cenas me cansaram.",
    "da": "Filmen er ikke god, men musikken er for det meste fin, og det er at se, at de kan have det sjovt.",
    "pl": "To nie jest dobry film, ale to, co robi aktor, to jest cos. Muzyka jest do niczego.",
    "tr": "Film iyi degil ama oyuncular harika ve muzik cok guzel. Bu son hic olmamis.",
    "id": "Film ini tidak bagus, tetapi aktornya hebat dan musiknya enak. Saya suka itu.",
    "vi": "Phim nay khong hay nhung dien vien rat tot va am nhac thi hay.",
    "ru": "Фильм не очень хороший, но актёры играют отлично.",
    "ar": "الفيلم ليس جيدا لكن الممثلين رائعون",
    "he": "הסרט לא טוב אבל השחקנים נהדרים",
    "hi": "फिल्म अच्छी नहीं है लेकिन अभिनेता बहुत अच्छे हैं",
    "ko": "영화는 별로였지만 배우들은 훌륭했다",
}


@pytest.mark.parametrize(("language", "texts"), REVIEWS.items())
def test_languages_that_are_found(language: str, texts: list[str]) -> None:
    assert [find_language([text]) for text in texts] == [language] * len(texts)
    assert find_language(texts) == language
    assert has_spaces(language) == (language == "en")


@pytest.mark.parametrize(("language", "text"), OTHERS.items())
def test_other_languages_are_not_taken_for_english(language: str, text: str) -> None:
    assert find_language([text]) == "und"
    assert has_spaces(language)
    assert find_language([*REVIEWS["en"], text]) == "en"  # a text among many


@pytest.mark.parametrize("texts", [[], [""], ["😀 👎 123 ..."], ["Bewertung"]])
def test_texts_that_do_not_tell_their_language(texts: list[str]) -> None:
    assert find_language(texts) == "und"


def test_mixed_texts_have_the_language_of_most_words() -> None:
    assert find_language(["好看 this film is not that good and the plot is thin"]) == "en"
    assert find_language(["这部电影的故事非常好看 the best"]) == "zh"


def test_a_named_language_is_not_searched() -> None:
    assert choose_language("zh-TW", REVIEWS["en"]) == "zh-tw"
    assert choose_language("auto", REVIEWS["zh"]) == "zh"
    for code in ("english", "e", "en_GB", ""):
        with pytest.raises(InputError, match=f"--language {code}: pass a code such as en, de or zh, or auto"):
            DataArguments(language=code)
    assert DataArguments(language="en-GB").language == "en-GB"


@given(st.text() | st.text(st.characters(categories=["Lo", "M", "Z", "P"])))
@settings(derandomize=True, deadline=None)
def test_words_are_the_text_without_white_space(text: str) -> None:
    spans = find_words(text)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    assert find_language([text]) in (*SCRIPTS, "en", "und")
