"""Makes the cross-encoder of the tests: `pip install onnx`, then `python make.py` here.

It has the inputs and the output of a real one and a vocabulary of 32 words. Its logit is 6 times the share of the question's
words that the passage has, minus 3: nothing is learned, so a test can say what comes out.
"""

import hashlib
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"] + (
    "a the bird crane stands in water flour eggs recipe needs two how many fish hunts at night owl what does eat "
    "borrow value mutably rust function reference"
).split()
SPECIAL = 4

vocabulary = {word: id for id, word in enumerate(WORDS)}
tokenizer = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": id, "content": WORDS[id], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for id in range(SPECIAL)
    ],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
}

embedding = np.eye(len(WORDS), dtype=np.float32)
embedding[:SPECIAL] = 0


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], **attributes)


nodes = [
    node("Gather", ["embedding", "input_ids"], "tokens"),
    node("Cast", ["token_type_ids"], "of_passage", to=TensorProto.FLOAT),
    node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT),
    node("Mul", ["mask", "of_passage"], "in_passage"),
    node("Sub", ["mask", "in_passage"], "in_question"),
]
for part in ["question", "passage"]:
    nodes += [
        node("Unsqueeze", [f"in_{part}", "last"], f"{part}_mask"),
        node("Mul", ["tokens", f"{part}_mask"], f"{part}_tokens"),
        node("ReduceSum", [f"{part}_tokens", "sequence"], f"{part}_counts", keepdims=0),
        node("Clip", [f"{part}_counts", "zero", "one"], f"{part}_words"),
    ]
nodes += [
    node("Mul", ["question_words", "passage_words"], "shared_words"),
    node("ReduceSum", ["shared_words", "dimension"], "shared", keepdims=1),
    node("ReduceSum", ["question_words", "dimension"], "asked", keepdims=1),
    node("Max", ["asked", "one"], "asked_for"),
    node("Div", ["shared", "asked_for"], "share"),
    node("Mul", ["share", "six"], "scaled"),
    node("Sub", ["scaled", "three"], "logits"),
]
constants = [
    numpy_helper.from_array(embedding, "embedding"),
    constant("last", np.array([-1], dtype=np.int64)),
    constant("sequence", np.array([1], dtype=np.int64)),
    constant("dimension", np.array([1], dtype=np.int64)),
    constant("zero", np.float32(0)),
    constant("one", np.float32(1)),
    constant("six", np.float32(6)),
    constant("three", np.float32(3)),
]
shape = ["batch", "sequence"]
inputs = [
    helper.make_tensor_value_info(name, TensorProto.INT64, shape)
    for name in ["input_ids", "attention_mask", "token_type_ids"]
]
outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])]
graph = helper.make_graph(nodes, "shared-words", inputs, outputs, constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)

files = {"model.onnx": model.SerializeToString(), "tokenizer.json": (json.dumps(tokenizer, indent=1) + "\n").encode()}
for name, content in files.items():
    with open(name, "wb") as file:
        file.write(content)
manifest = {
    "id": "shared-words",
    "max_tokens": 16,
    "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
}
with open("manifest.json", "w") as file:
    file.write(json.dumps(manifest, indent=2) + "\n")
