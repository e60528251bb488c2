# SPDX-License-Identifier: Apache-2.0
"""The prompts of the reference vectors, and the default model's chat format."""

# (id, kind, chat, text)
PROMPTS = [
    ("single-token", "one token", False, "The"),
    ("story", "English", False, "Once upon a time, in a village by the sea,"),
    ("hello", "English, short", False, "Hello, world! My name is"),
    ("c-code", "C", False, "#include <stdio.h>\n\nint main(void) {\n  int sum = 0;\n  for (int i = 1; i <= 10; i++) {\n"),
    ("python-code", "Python", False, "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n"),
    ("json", "JSON", False, "{\n  \"name\": \"Ada Lovelace\",\n  \"born\": 1815,\n  \"languages\": [\"English\", \"French\"],\n"),
    ("chinese", "Chinese", False, "北京是中国的"),
    ("arabic", "Arabic", False, "مرحبا، كيف حالك اليوم؟"),
    ("russian", "Russian", False, "Москва — столица России. В этом городе"),
    ("hindi", "Hindi", False, "भारत की राजधानी नई दिल्ली है।"),
    ("japanese", "Japanese", False, "むかしむかし、あるところに、おじいさんと"),
    ("emoji", "emoji", False, "Weather today: ☀️🌤️ Mood: 😀🎉👩‍👩‍👧‍👦 Food: 🍕🍣"),
    ("digits", "digits", False, "1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024,"),
    ("whitespace", "runs of blanks", False, "a\tb\n\n\n    indented   by   three\r\n  - item one\n  - item two\n"),
    (
        "long",
        "English, about 400 tokens",
        False,
        "The lighthouse at the end of the point had been dark for eleven years when Mira first climbed its stairs. She "
        "counted them as she went, because her grandfather had told her that there were one hundred and forty-four, and "
        "she did not believe him. At the seventy-second step there was a window no wider than her hand, and through it "
        "she could see the harbour, the two fishing boats that still went out in the morning, and the long grey line "
        "where the water stopped and the sky began. She stood there for a while to catch her breath. Somebody had "
        "scratched letters into the stone beside the window: a name, a year, and a small drawing of a ship with three "
        "masts. The year was 1887.\n\n"
        "When she reached the top she found the lamp room almost empty. The great lens was gone; only the iron ring on "
        "which it had turned was left, red with rust, and a wooden box that was nailed shut. There was a logbook on the "
        "floor. Its pages were swollen with damp, but the ink had held. Every night the keepers had written the same few "
        "things: the hour at which the lamp was lit, the direction of the wind, the ships that passed, the oil that was "
        "used, and the hour at which the lamp was put out. On some nights there was a remark. \"Fog until four.\" \"A "
        "whale, close in.\" \"The baby was born at six, both are well.\" \"Nothing seen, nothing heard.\" Mira turned to "
        "the last page. The handwriting was her grandfather's, smaller and more careful than she knew it. He had written "
        "the hour, the wind, and the name of one ship, and beneath them a sentence that had been crossed out so heavily "
        "that the pen had torn the paper. She held the page up to the light. Slowly, letter by letter, she began to make "
        "out what it said:",
    ),
    ("chat-capital", "chat", True, "What is the capital of France?"),
    ("chat-gravity", "chat", True, "Explain gravity to a six-year-old in three sentences."),
    ("chat-code", "chat, code", True, "Write a Python function that reverses a string, with an example."),
    ("chat-poem", "chat", True, "Write a short poem about the sea in winter."),
    ("chat-spanish", "chat, Spanish", True, "¿Cuál es la diferencia entre un río y un lago?"),
]

# The three prompts whose logits are kept for every position.
ALL_POSITIONS = ("story", "hello", "chinese")

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chatml(user):
    """One user turn as SmolLM2's chat template in the GGUF formats it, with its default system prompt."""
    turns = (("system", SYSTEM), ("user", user))
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
