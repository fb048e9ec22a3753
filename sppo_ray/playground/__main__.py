"""`python -m sppo_ray.playground`: build the playground and print samples.

In: nothing. Out: its folders, and a few prompts with the untrained policy's answers and rule scores.
"""

import json
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sppo_ray.playground import Playground, build, rule_score


def show(playground: Playground, prompts: int = 6) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(playground.policy)
    model: Any = AutoModelForCausalLM.from_pretrained(playground.policy, attn_implementation="eager")
    rows = (playground.prompts / "held_out.jsonl").read_text("utf-8").splitlines()[:prompts]
    for prompt in (json.loads(row)["prompt"] for row in rows):
        chat = [{"role": "user", "content": prompt}]
        inputs: Any = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=40, do_sample=True, temperature=0.8, top_p=0.95)
        answer = str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        print(f"{rule_score(prompt, answer):.2f}  {prompt}  ->  {answer}")


if __name__ == "__main__":
    made = build()
    print(f"policy  {made.policy}\njudge   {made.judge}\nprompts {made.prompts}\n")
    show(made)
