"""The documentation: links, paths, commands and examples hold, and generated pages are up to date."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from how_to.run import PAGES as FOLLOWED
from how_to.run import edited

from pipeline.catalog import datasets as catalog
from pipeline.catalog.networks import NETWORKS
from pipeline.commands import COMMANDS, parser, reference
from pipeline.commands import list as listed
from pipeline.commands.plan import plan
from pipeline.errors import UserError
from pipeline.report.claims import CONTRADICTED, SUPPORTED, UNDECIDED, on_published
from pipeline.results import COLUMNS
from pipeline.runs import STAGES
from pipeline.study import config as configuration
from pipeline.study.config import Config, read
from pipeline.study.exchange import Exchange
from pipeline.study.graph import Graph
from pipeline.study.outputs import KINDS
from pipeline.study.state import output_of, resolve, run_of
from pipeline.study.strict_yaml import read_yaml
from pipeline.study.targets import COMPARISON, FIGURE, TABLE
from pipeline.training.loop import HISTORY

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
EXCHANGE = "workflow/exchange.smk"
#: Blocks of a page that its reader writes into a file of the configuration.
CONFIGURATION = ("yaml", "diff", "csv")
#: Folders and files at the root that documentation may name.
TOP = {path.name for path in ROOT.iterdir()} - {"results", "data", "build", ".venv", ".snakemake"}


def each_page() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [block for name, block in FENCE.findall(text) if name in languages]


def written(text: str) -> set[str]:
    """The files that a page tells its reader to write: its blocks begin with their names."""
    return set(re.findall(r"^```\w+\n# (\S+/\S+)$", text, re.MULTILINE))


def extending(page: Path) -> dict[str, str]:
    """The sections of a page that add code to the program, by title (of its beginning: "")."""
    start, *others = page.read_text().split("\n## ")
    sections = {"": start} | {text.partition("\n")[0]: text for text in others}
    return {
        title: text
        for title, text in sections.items()
        if any(name.startswith(("src/", "workflow/")) for name in written(text))
    }


def as_it_is(page: Path) -> str:
    """What a page says of the program as it is; what needs new code, tests/how_to follows."""
    text = page.read_text()
    for section in extending(page).values():
        text = text.replace(section, "")
    return text


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def commands(text: str) -> list[list[str]]:
    """The words of each command in the shell blocks of a page, comments dropped."""
    joined = [block.replace("\\\n", " ") for block in blocks(text, "sh")]
    lines = [line for block in joined for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


# -- generated pages ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", reference.PAGES, ids=str)
def test_a_generated_page_is_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If not: ``python -m pipeline reference --write``."""
    monkeypatch.chdir(ROOT)
    assert (ROOT / path).read_text() == reference.PAGES[path]()


def test_the_evidence_names_every_verdict_on_the_published_cells() -> None:
    said = (ROOT / "docs/evidence/README.md").read_text()
    found = {verdict: set[str]() for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED)}
    for claim in on_published():
        found[claim.verdict].add(claim.id)
        assert claim.note or claim.verdict != CONTRADICTED, claim.id
    for verdict in (SUPPORTED, CONTRADICTED):
        (line,) = re.findall(rf"^- \*\*{verdict}\*\*.*$", said, re.MULTILINE)
        assert set(re.findall(r"`([a-z0-9-]+)`", line)) == found[verdict]
    undecided = said.partition("- **undecided**")[2].partition("\n\nThe page is generated")[0]
    assert found[UNDECIDED] == set(re.findall(r"`([a-z0-9]+-[a-z0-9-]+)`", undecided))


def test_the_page_of_settings_has_every_kind_of_output() -> None:
    assert [kind for kind in KINDS if f"\n#### {kind}\n" not in reference.settings_page()] == []


def test_pages_are_written_and_pictures_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read(ROOT)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    reference.run(config, parser().parse_args(["reference", "--write"]))
    assert capsys.readouterr().out.split() == list(map(str, reference.PAGES))
    assert (tmp_path / reference.SETTINGS).read_text() == reference.settings_page()
    with pytest.raises(UserError, match="study=demo"):
        reference.copy_pictures(tmp_path)
    for source in reference.PICTURES.values():
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_bytes(source.encode())
    reference.copy_pictures(tmp_path)
    for target, source in reference.PICTURES.items():
        assert (tmp_path / target).read_bytes() == source.encode()


# -- links and paths ---------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page()
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_site() -> None:
    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from files(part)

    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]]
    # tables that stand on a page of evidence
    parts = re.compile(r"evidence/[^/]+/(?!README\.md$)")
    listed = sorted(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert listed == sorted(page for page in pages if not parts.match(page))


@each_page()
def test_every_path_of_the_repository_exists(page: Path) -> None:
    named = [re.split(r"[\s:#]", code)[0].rstrip("/") for code in CODE.findall(prose(page))]
    paths = [n for n in named if n.split("/")[0] in TOP and not re.search(r"[<*…{]", n)]
    made_by_reader = written(page.read_text())
    assert [n for n in paths if not (ROOT / n).exists() and n not in made_by_reader] == []


@each_page()
def test_no_path_of_a_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.~$])/(?:home|root|tmp|work|mnt|Users)\b\S*", page.read_text()) == []


# -- commands and examples ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration with what a page tells its reader to paste into it; nothing: this one."""
    page: Path = request.param
    text = as_it_is(page)
    if not blocks(text, *CONFIGURATION):
        return ROOT
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "config.yaml", folder)
    shutil.copytree(ROOT / "config", folder / "config")
    pasted = [(kind, block) for kind, block in FENCE.findall(text) if kind in CONFIGURATION]
    for language, block in pasted:
        first, _, content = block.partition("\n")
        name = first.removeprefix("# ")
        assert re.match("config|~/", name), (
            f"{page}: a block of configuration must begin with its file's name"
        )
        if name.startswith("~"):  # a file outside of the repository
            continue
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(edited(path.read_text() if path.exists() else "", language, content))
    return folder


def each_reader() -> pytest.MarkDecorator:
    names = [str(p.relative_to(ROOT)) for p in PAGES]
    return pytest.mark.parametrize(
        ("page", "own"), [(p, p) for p in PAGES], ids=names, indirect=["own"]
    )


@functools.cache
def entries(root: Path) -> dict[tuple[str, str, str], Any]:
    """What studies may name, by its file, its kind and its name."""
    found = {}
    for name in ("recipes", "datasets", "models"):
        path = root / "config" / f"{name}.yaml"
        content = (read_yaml(path) if path.exists() else None) or {}
        for kind, part in (content if name == "recipes" else {name: content}).items():
            found |= {(name, kind, entry): settings for entry, settings in (part or {}).items()}
    return found


@functools.cache
def check(own: Path) -> None:
    """Read every study and find its runs; those of our studies only where what is there was changed."""
    here, there = entries(ROOT), entries(own)
    only_adds = all(there.get(name) == settings for name, settings in here.items())
    for study in (own / "config" / "studies").glob("*.yaml"):
        config = read(own, {"study": study.stem})
        ours = ROOT / "config" / "studies" / study.name
        if own != ROOT and only_adds and ours.exists() and ours.read_text() == study.read_text():
            continue
        graph = Graph(config)
        graph.closure(graph.outputs(config.outputs))


@each_reader()
def test_every_example_of_configuration_is_valid(page: Path, own: Path) -> None:
    check(own)


@each_reader()
def test_every_pipeline_command_parses_and_names_what_exists(page: Path, own: Path) -> None:
    for words in commands(as_it_is(page)):
        if words[:3] != ["python", "-m", "pipeline"]:
            continue
        given = vars(parser().parse_args(words[3:]))
        found = {k: given[k] for k in ("study", "protocol") if given[k] is not None}
        config = read(own, found)
        match given["command"]:
            case "plan" | "stale":
                resolve(config, given["targets"])
            case "show" if output_of(config, given["path"]) is None:
                Graph(config).closure([run_of(config, given["path"])])
            case "diff":
                Graph(config).closure([run_of(config, given[name]) for name in ("first", "second")])
            case "list":
                assert set(given["what"]) <= set(listed.KINDS)
            case "table":
                assert config.outputs[given["name"]].what in ("table", "claims")
            case "data":
                assert set(given["names"]) <= set(config.datasets)
            case "trace":
                if Path(given["what"]).stem not in config.outputs:
                    run_of(config, given["what"])
                assert all(cell.partition("=")[0] in COLUMNS for cell in given["cell"])


def snakemake(words: list[str]) -> tuple[list[str], dict[str, Any], list[str]]:
    """Targets, values of ``--config`` and profiles of a command, read by Snakemake's own parser."""
    from snakemake.cli import get_argument_parser, parse_config

    given = get_argument_parser().parse_args(words[1:])
    config: dict[str, Any] = parse_config(given.config or [])
    named = given.profile or []
    return list(given.targets), config, [*named, *filter(None, [given.workflow_profile])]


def shown(config: Config) -> set[str]:
    """The files of a study's tables and figures, and its report."""
    base = f"{config.main.results}/{config.scope}"
    found = {f"{base}/report.html", f"{base}/archive.html"}
    for name, output in config.outputs.items():
        folder, ends = (
            ("figures", FIGURE) if output.what == "figure" else ("tables", TABLE + COMPARISON)
        )
        found |= {f"{base}/{folder}/{name}{end}" for end in ends}
    return found


@each_reader()
def test_every_snakemake_command_names_targets_that_exist(
    page: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "find_spec", lambda _: True)  # the page installs it before
    for words in commands(as_it_is(page)):
        if words[0] != "snakemake":
            continue
        targets, given, profiles = snakemake(words)
        if EXCHANGE in words:  # has rules, and keys of --config, of its own
            Exchange.asked(given)
            assert set(targets) <= {"pull", "push"} and read(own, given)
            continue
        config = read(own, given)
        files = shown(config)
        found = resolve(config, [target for target in targets if target not in files])
        Graph(config).closure(found.runs)
        assert [p for p in profiles if p[0] != "~" and not any((ROOT / p).glob("*.yaml"))] == []


def test_every_page_that_adds_code_is_followed() -> None:
    """By tests/how_to/run.py, on a copy of the tree."""
    sections = {
        f"{page.name}#{title}" if title else page.name
        for page in PAGES
        for title in extending(page)
    }
    assert sections == {name for name, most in FOLLOWED.items() if most}


@each_page()
def test_python_examples_compile_and_import(page: Path) -> None:
    """But for what the pages tell their reader to write."""
    files = {name for each in PAGES for name in written(each.read_text())}
    made = {name.removeprefix("src/").removesuffix(".py").replace("/", ".") for name in files}
    for block in blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pipeline"):
                if node.module in made and importlib.util.find_spec(str(node.module)) is None:
                    continue
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@each_page()
def test_make_commands_are_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = [words[1:] for words in commands(page.read_text()) if words[0] == "make"]
    made += [code.split()[1:] for code in CODE.findall(prose(page)) if code.startswith("make ")]
    assert [words for words in made if not set(words) <= targets] == []


# -- what the reference promises to be complete in ---------------------------------------------


def test_the_reference_has_every_form_of_path() -> None:
    text = (ROOT / "docs/reference/paths.md").read_text()
    assert [
        stage for stage, kind in STAGES.items() if f"`{stage}/{kind.form.text}`" not in text
    ] == []


def test_the_reference_has_every_file_and_column() -> None:
    text = (ROOT / "docs/reference/outputs.md").read_text()
    names = {name for kind in STAGES.values() for name in kind.files}
    assert [n for n in {*names, *HISTORY, *COLUMNS} if f"`{n}`" not in text] == []


def test_the_reference_has_every_command() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text()
    assert [name for name in COMMANDS if f"**{name}**" not in text] == []


def test_the_page_of_settings_names_every_network() -> None:
    line = next(one for one in reference.settings_page().splitlines() if "| `model` |" in one)
    assert [name for name in NETWORKS if name not in line.replace(",", "").split()] == []


def test_the_guides_name_every_data_set_and_key_of_an_entry() -> None:
    text = (ROOT / "docs/how-to/data.md").read_text()
    assert [name for name in catalog.INFO if f"`{name}`" not in text] == []
    example = yaml.safe_load(blocks((ROOT / "docs/how-to/data-set.md").read_text(), "yaml")[0])
    for name, entry in example.items():
        for key in entry:
            short = {k: v for k, v in entry.items() if k != key}
            with pytest.raises(UserError, match=f"key '{key}' is missing"):
                catalog.parse_entry(name, short)


def test_the_readme_counts_what_plan_counts(tmp_path: Path) -> None:
    config = read(ROOT, {"study": "paper", "results": str(tmp_path)})
    graph = Graph(config)
    runs = graph.closure(graph.outputs(["table_5"]))
    jobs = [{"rule": "any", "stage": run.stage, "key": run.key} for run in runs]
    found = plan(config, jobs, ["table_5"], "cpu")
    text = (ROOT / "README.md").read_text()
    assert f"{found['jobs']} runs" in text and f"{found['epochs']:,} epochs" in text
    assert f"{found['missing']['sparse']['jobs']} of them sparse" in text
