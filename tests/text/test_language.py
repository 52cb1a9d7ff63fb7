import pytest

from mlxdistill.text.language import MOST_CHARACTERS, language_of

SENTENCES = {
    "en": "Could you please tell me where the nearest station is?",
    "de": "Können Sie mir bitte sagen, wo der nächste Bahnhof ist?",
    "fr": "Pourriez-vous me dire où se trouve la gare la plus proche ?",
    "es": "¿Podría decirme dónde está la estación más cercana?",
    "it": "Mi può dire dove si trova la stazione più vicina, per favore?",
    "pt": "Você poderia me dizer onde fica a estação mais próxima?",
    "nl": "Kunt u mij vertellen waar het dichtstbijzijnde station is?",
    "pl": "Czy może mi pan powiedzieć, gdzie jest najbliższa stacja?",
    "tr": "Bana en yakın istasyonun nerede olduğunu söyler misiniz?",
    "ru": "Скажите, пожалуйста, где находится ближайшая станция?",
    "el": "Μπορείτε να μου πείτε πού είναι ο πλησιέστερος σταθμός;",
    "ar": "هل يمكنك أن تخبرني أين تقع أقرب محطة؟",
    "hi": "क्या आप मुझे बता सकते हैं कि निकटतम स्टेशन कहाँ है?",
    "zh": "请问最近的车站在哪里？",
    "ja": "一番近い駅はどこですか、教えてください。",
    "ko": "가장 가까운 역이 어디인지 알려 주시겠어요?",
}

WITHOUT_ONE = {
    "empty": "",
    "white space": " \n\t ",
    "a word": "ok",
    "chat": "lol thx",
    "a word that many languages have": "Danke",
    "numbers": "12345 67890",
    "marks": "!!!???",
    "emoji": "😀👨‍👩‍👧‍👦👍🏽",
    "markup": "<div><p>x</p></div>",
    "JSON": '{"a": 1, "b": [2, 3]}',
    "a link": "http://example.com/a?b=c",
    "a NUL": "\0\0",
    "half a surrogate pair": "\ud800",
    "zero-width": "\u200b" * 50,
    "one letter": "a" * 1000,
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_told(language):
    assert language_of(SENTENCES[language]) == language


@pytest.mark.parametrize("kind", WITHOUT_ONE)
def test_what_cannot_be_told_is_left_open(kind):
    assert language_of(WITHOUT_ONE[kind]) is None


def test_the_beginning_of_a_long_text_decides_and_costs_no_more():
    english = SENTENCES["en"] * 10
    assert len(english) > MOST_CHARACTERS
    assert language_of(english + SENTENCES["ru"] * 200_000) == "en"
