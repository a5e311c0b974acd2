r"""What is typed in bash, zsh and fish, and what Tab puts there.

typer's own scripts are not used: that of zsh ran what stood in the name of a folder, and that of
bash took a part of a name with `=` for a word. Ours hand over the line up to the cursor, which is
read here, and take a value a line; zsh and fish quote it themselves, bash does not.
"""

from __future__ import annotations

import os
import re
import shlex

from zoo.cli.console import talk
from zoo.errors import RecipeError

INSTALL, SHOW = "--install-completion", "--show-completion"
SCRIPTS = {
    "bash": """
%(complete_func)s() {
    local IFS=
    mapfile -t COMPREPLY < <(ZOO_LINE="${COMP_LINE:0:COMP_POINT}" ZOO_PART="$2" \\
        %(autocomplete_var)s=complete_bash "$1" 2>/dev/null)
}

complete -o default -F %(complete_func)s %(prog_name)s
""",
    "zsh": """
#compdef %(prog_name)s

%(complete_func)s() {
    local -a found
    found=("${(@f)$(ZOO_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" \\
        _TYPER_COMPLETE_FISH_ACTION=get-args %(autocomplete_var)s=complete_fish \\
        %(prog_name)s 2>/dev/null)}")
    if [[ -n $found ]]; then compadd -- $found; else _files; fi
}

if [[ $funcstack[1] == _%(prog_name)s ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
""",
    "fish": """
function %(complete_func)s
    set -lx ZOO_LINE (commandline -cp | string collect)
    set -lx _TYPER_COMPLETE_FISH_ACTION get-args
    set -lx %(autocomplete_var)s complete_fish
    set -l found (%(prog_name)s 2>/dev/null)
    if test -n "$found"
        printf '%%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end

complete --command %(prog_name)s --no-files --arguments "(%(complete_func)s)"
""",
}
_WORD = re.compile(r"""(\\.|'[^']*(?:'|$)|"(?:\\.|[^"\\])*\\?(?:"|$)|[^\s\\'"]|\\$)+""", re.DOTALL)
_PIECE = re.compile(r"""\\(.)|'([^']*)'?|"((?:\\.|[^"\\])*)\\?"?|([^\\'"]+)|\\$""", re.DOTALL)
_OPEN = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\\'"])*(['"]?)""", re.DOTALL)


def teach(flag: str, *named: str) -> int:
    """Show or install the script of the shell that asks, or of the one that is named."""
    from typer import _completion_shared as theirs

    shell = named[0] if named else theirs._get_shell_name()
    if shell is None or shell not in [*theirs.Shells] or len(named) > 1:
        said = " ".join(named) or "the shell that asks is not known"
        raise RecipeError(
            f"{flag}: {said}", f"one shell's name behind it: {', '.join(theirs.Shells)}"
        )
    theirs._completion_scripts.update(SCRIPTS)
    about = {"shell": shell, "prog_name": "zoo", "complete_var": "_ZOO_COMPLETE"}
    if flag == SHOW:
        print(theirs.get_completion_script(**about))
    else:
        _, place = theirs.install(**about)
        print(place)
        talk(f"written for {shell}: Tab offers what `zoo` takes in the next {shell} that you begin")
    return 0


def read_line() -> None:
    """Hand the line of a shell that asks what Tab offers to typer, in words as they are meant."""
    if (line := os.environ.get("ZOO_LINE")) is None:
        return
    *words, word = (_meant(one) for one in _words(line))
    os.environ["COMP_WORDS"] = os.environ["_TYPER_COMPLETE_ARGS"] = shlex.join([*words, word])
    os.environ["COMP_CWORD"] = str(len(words))


def as_typed(value: str) -> str:
    """Return a value as the shell must be given it, in place of what its script calls the part.

    That is the last word; in bash it begins behind the last `=`, `:` or closed quote. The flag of
    `--flag=value` belongs to the word.
    """
    if (line := os.environ.get("ZOO_LINE")) is None:
        return value
    word, part = _words(line)[-1], os.environ.get("ZOO_PART", "")
    flag = re.match(r"--[\w-]+=", _meant(word))
    value = (flag[0] if flag else "") + value
    if os.environ.get("_ZOO_COMPLETE") != "complete_bash":
        return value
    value = value[len(_meant(word.removesuffix(part))) :]
    opened = _OPEN.match(word)
    quote = opened[1] if opened else ""
    if quote == "'":
        value = value.replace("'", r"'\''")
    elif quote:  # a `!` asks for a line of the history even there
        value = re.sub(r'[$`"\\]', r"\\\g<0>", value).replace("!", "\"'!'\"")
    if quote:  # bash closes it, not where it seems to be closed
        return value + quote * value.endswith(quote)
    return re.sub(r"[^\w@%+=:,./~-]|^~", r"\\\g<0>", value)


def _words(line: str) -> list[str]:
    """Return the words of a line as they are typed; the last is that at the cursor, maybe empty."""
    found = list(_WORD.finditer(line))
    ends = bool(found) and found[-1].end() == len(line)
    return [one[0] for one in found] + ([] if ends else [""])


def _meant(word: str) -> str:
    """Return a word without its quotes and backslashes; a quote may be open."""

    def piece(found: re.Match[str]) -> str:
        if found[3] is not None:
            return re.sub(r'\\([$`"\\])', r"\1", found[3])
        return found[1] or found[2] or found[4] or ""

    return _PIECE.sub(piece, word)
