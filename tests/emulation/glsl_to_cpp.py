#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A compute shader as a C++ class for dispatch.hpp, from its own text:

    glsl_to_cpp.py SHADERS NAME.comp OUTPUT.hpp

The preprocessed text stays as it is but for declarations (constants, buffers, shared memory, arrays, out parameters), swizzles and
float literals; types and functions of GLSL come from GLM. Specialisation constants are static members, set at run time. What is at
file scope and not understood ends it with file and line; what is left to the compiler, it reports at the shader's lines."""

import re
import subprocess
import sys

from mutants import MUTANTS

SCALARS = ["uint", "int", "float", "bool", "uint64_t", "int64_t"]
VECTORS = [prefix + "vec" + size for prefix in ("", "u", "i", "b") for size in "234"]


class Shader:
    def __init__(self):
        self.types = SCALARS + VECTORS  # and structs
        self.constants, self.buffers, self.body = [], [], []
        self.file, self.line = "", 0  # where the declaration at hand begins

    def line_of(self, lines):
        return f"{self.file}:{self.line + lines}"


def fail(where, text):
    sys.exit(f"{where}: glsl_to_cpp.py does not understand: {' '.join(text.split())[:120]}")


def preprocess(folder, name):
    command = ["glslangValidator", "-E", "-I" + folder, f"{folder}/{name}"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stdout}{result.stderr}")
    text = re.sub(r"^#(version|pragma|extension)\b.*$", "", result.stdout, flags=re.M)
    return f'#line 1 "{folder}/{name}"\n' + text


# ---- Mutants ----

def insert_mutants(text):
    """Each beside the original, chosen by `mutant`: 0 = none. Returns the text, and of each mutant how often it was found."""
    found = []
    for number, (_, old, new, _) in enumerate(MUTANTS, 1):
        pattern = r"\s*".join(re.escape(word) for word in re.findall(r"\w+|[^\w\s]", old))
        places = list(re.finditer(pattern, text))
        found.append(len(places))
        if len(places) == 1:
            changed = f"{{ if (mutant == {number}) {{ {new} }} else {{ {places[0].group(0)} }} }}"
            text = text[: places[0].start()] + changed + text[places[0].end():]
    return text, found


# ---- File scope ----

def declarations(text):
    """(file:line, text) of each; text has #line in it where the file changes, and begins with one."""
    begin, depth, file, line, at_line = 0, 0, "", 1, 1
    i = 0
    while i < len(text):
        marker = re.compile(r'#line (\d+) "([^"]*)"\n').match(text, i)
        if marker:
            if not text[begin:i].strip():
                begin = marker.end()
            line, file, i = int(marker.group(1)), marker.group(2), marker.end()
            continue
        c = text[i]
        if not text[begin:i].strip():
            at_line = line
        line += c == "\n"
        depth += (c in "{(") - (c in "})")
        i += 1
        function_ends = c == "}" and re.match(r"[^{=]*\)\s*\{", text[begin:i].strip())
        if depth == 0 and (c == ";" or function_ends):
            declaration = text[begin:i].strip()
            if declaration != ";":
                yield f"{file}:{at_line}", f'#line {at_line} "{file}"\n{declaration}\n'
            begin = i
    if text[begin:].strip():
        fail(f"{file}:{line}", text[begin:])


def translate(where, text, shader):
    shader.file, number = where.rsplit(":", 1)
    shader.line = int(number)
    line, declaration = text.split("\n", 1)
    declaration = declaration.strip()

    def match(pattern):
        return re.fullmatch(pattern, declaration, flags=re.S)

    if match(r"layout\s*\(\s*local_size.*\)\s*in\s*;"):
        return
    if m := match(r"layout\s*\(\s*constant_id\s*=([^)]*)\)\s*const\s+(uint|float)\s+(\w+)\s*=\s*[^;]*;"):
        shader.constants.append((m[1].strip(), m[3]))
        shader.body.append(f"{line}\nstatic inline {m[2]} {m[3]};")
    elif m := match(r"layout\s*\(\s*push_constant\s*\)\s*uniform\s+(\w+)\s*(\{.*\})\s*(\w+)\s*;"):
        shader.body.append(f"{line}\nstruct {m[1]} {m[2]};\nstatic inline {m[1]} {m[3]};")
    elif m := match(r"layout\s*\(([^)]*)\)\s*(readonly|writeonly)?\s*buffer\s+\w+\s*\{\s*(\w+)\s+(\w+)\s*\[\s*\]\s*;\s*\}\s*;"):
        binding = re.search(r"binding\s*=\s*(\w+)", m[1])
        shader.buffers.append((binding[1], m[4]))
        const = "const " if m[2] == "readonly" else ""
        shader.body.append(f'{line}\nstatic inline Buffer<{const}{m[3]}> {m[4]}{{"{m[4]}"}};')
    elif m := match(r"shared\s+(\w+)\s+(\w+)\s*\[(.*)\]\s*;"):
        shader.body.append(f'{line}\nSharedArray<{m[1]}> {m[2]}{{this, "{m[2]}", {m[3]}}};')
    elif m := match(r"shared\s+(\w+)\s+(\w+)\s*;"):
        shader.body.append(f'{line}\nSharedValue<{m[1]}> {m[2]}{{this, "{m[2]}"}};')
    elif m := match(r"struct\s+(\w+)\s*\{[^[]*\}\s*;"):
        shader.types.append(m[1])
        shader.body.append(text)
    elif match(r"const\s+\w+\s+\w+\s*=.*;"):
        shader.body.append(line + "\n" + expressions(declaration, shader))
    elif match(r"(%s)\s+\w+[^(]*;" % "|".join(shader.types)):
        shader.body.append(line + "\n" + expressions(declaration, shader))
    elif match(r"\w+\s+\w+\s*\([^{]*\)\s*\{.*\}"):
        shader.body.append(line + "\n" + function(declaration, shader))
    else:
        fail(where, declaration)


# ---- What functions are made of ----

def expressions(text, shader):
    types = "|".join(shader.types)
    text = re.sub(r"\[\[\s*(un|dont_un)roll\s*\]\]", "", text)
    text = re.sub(r"(?<![\w.])(\d+\.\d*(?:[eE][-+]?\d+)?)(?![\w.])", r"\1f", text)
    text = re.sub(r"\.\s*([xyzw]{2,4})\b", r".\1()", text)
    # T a[N] = T[N](...), b[M]; -> Array<T> a(N, {...}), b(M);
    text = re.sub(r"\b(%s)\s+(\w+)\s*\[([^\]]*)\]\s*=\s*\1\s*\[[^\]]*\]\s*\(([^)]*)\)" % types, r"Array<\1> \2{\3, {\4}}", text)

    def arrays(m):
        return f"Array<{m[1]}> " + re.sub(r"(\w+)\s*\[([^\]]*)\]", r"\1{\2}", m[2]) + ";"

    text = re.sub(r"\b(%s)\s+((?:\w+\s*\[[^\]]*\]\s*,\s*)*\w+\s*\[[^\]]*\])\s*;" % types, arrays, text)
    if other := re.search(r"\b(%s)(\s+\w+)?\s*\[[^;]*" % types, text):
        fail(shader.line_of(text[: other.start()].count("\n")), other.group(0))
    return text


def function(text, shader):
    head, body = text.split("{", 1)
    head = re.sub(r"\b(?:in)?out\s+(\w+)\s+(\w+)\s*\[[^\]]*\]", r"Array<\1> &\2", head)
    head = re.sub(r"\b(?:in)?out\s+(\w+)\s+(\w+)", r"\1 &\2", head)
    head = re.sub(r"\b(%s)\s+(\w+)\s*\[[^\]]*\]" % "|".join(shader.types), r"Array<\1> \2", head)
    shader.line += head.count("\n")
    return head + "{" + expressions(body, shader)


def main(folder, name, output):
    shader = Shader()
    source, found = insert_mutants(preprocess(folder, name))
    for where, text in declarations(source):
        translate(where, text, shader)
    with open(output, "w", encoding="utf-8") as file:
        file.write(f"// Made by glsl_to_cpp.py from {name}.\nstruct Shader : Lane {{\nusing Lane::Lane;\n")
        file.write(f"static inline int mutant;\nenum {{ MUTANTS = {len(MUTANTS)} }};\n")
        file.write("\n".join(shader.body))
        file.write(f'\n#line 1 "{output}"\ntemplate <class F> static void each_constant(F f) {{\n')
        file.writelines(f"f({index}, &{name});\n" for index, name in shader.constants)
        file.write("}\ntemplate <class F> static void each_buffer(F f) {\n")
        file.writelines(f"f({binding}, {name});\n" for binding, name in shader.buffers)
        file.write("}\n};\nstruct Mutant { const char *what, *run; int found; };\nstatic const Mutant mutants[] = {\n")
        file.writelines('{"%s", "%s", %d},\n' % (what, case, times) for (what, _, _, case), times in zip(MUTANTS, found))
        file.write("};\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
