"""The page at `/` in a real browser, against the real server."""

import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FileChooser, Page, Route, expect

from tests.browser import (
    DESKTOP,
    INK_ON_GROUND,
    PHONE,
    Opened,
    chromium,
    contrast,
    luminance,
    new_page,
)
from tests.unit.serving.shapes import TOKEN, scenes
from tests.unit.serving.support import DEADLINE_SECONDS, SIGNATURE, Process, picture, write_artifact

SMALLEST = (320, 640)
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
INKS = "h1, h2, p, dt, dd, label, legend, button, .value, #best, #best-value, code"
HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "W" * 300,
    "日本語のとても長いラベル" * 8,
]
ELSEWHERE = "elsewhere.test"
"""A name of this host by which a browser does not take it for itself: no secure context."""

Open = Callable[..., Opened]
Serve = Callable[..., Process]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests, with a camera that shows a test picture."""
    with chromium(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    ) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens the page of a server: `visit(server, size, scheme)`; waits until it `knows` what is served."""
    opened: list[Opened] = []

    def visit(
        server: Process,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        host: str = "127.0.0.1",
        knows: bool = True,
    ) -> Opened:
        one = new_page(browser, size, scheme)
        opened.append(one)
        one.page.goto(f"http://{host}:{server.port}/", wait_until="load")
        if knows:
            expect(one.page.locator("#training")).to_be_visible()
        return one

    yield visit
    for one in opened:
        one.page.context.close()


def choose(page: Page, data: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    """Picks a file."""
    page.get_by_label("Choose a picture").set_input_files({"name": name, "mimeType": kind, "buffer": data})


def bars(page: Page) -> list[tuple[str, str, float]]:
    """Label, number and length of each bar that is seen."""
    found: list[tuple[str, str, float]] = []
    for row in page.locator("#bars > :visible").element_handles():
        found.append(tuple(row.evaluate(BAR)))
    return found


BAR = """e => [e.querySelector('.name').textContent, e.querySelector('.value').textContent,
              parseFloat(e.querySelector('.track span').style.width)]"""


def fits(page: Page, width: int) -> None:
    widths = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(widths) <= width


@pytest.mark.parametrize("size", [DESKTOP, PHONE, SMALLEST])
def test_a_picture_is_answered_as_programs_are(
    visit: Open, shapes_server: Process, size: tuple[int, int]
) -> None:
    opened = visit(shapes_server, size)
    page = opened.page
    fits(page, size[0])
    data = scenes(31, 1)[0].file()
    choose(page, data)
    expect(page.locator("#map")).to_be_visible()
    expected = shapes_server.ask("POST", "/classify", data).json()["predictions"]
    found = bars(page)
    assert [label for label, _, _ in found] == [one["label"] for one in expected]
    for (_, told, length), one in zip(found, expected, strict=True):
        assert length == pytest.approx(100 * one["probability"], abs=0.01)
        if told[0] not in "<>":
            assert float(told.removesuffix(" %")) == pytest.approx(100 * one["probability"], abs=0.051)
    assert page.locator("#best").inner_text() == expected[0]["label"]
    assert page.get_by_role("status").inner_text().startswith(expected[0]["label"])
    assert re.search(r"Answered in \d+(\.\d)? ms", page.inner_text("#latency"))
    assert page.title() == "shapes · Lepton"
    assert page.locator("h1").inner_text() == "shapes"
    assert "0123456789ab" in page.inner_text("#version")
    fits(page, size[0])
    assert opened.errors == []
    origin = f"http://127.0.0.1:{shapes_server.port}/"
    assert all(url.startswith((origin, f"blob:{origin}", "data:")) for url in opened.requests)


def test_the_map_is_the_servers_picture(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server).page
    data = scenes(32, 1)[0].file()
    choose(page, data)
    expect(page.locator("#map")).to_be_visible()
    shown = page.evaluate(
        "async () => [...new Uint8Array(await (await new Response(await new Promise(done => {"
        "  const image = document.getElementById('map'), canvas = document.createElement('canvas');"
        "  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;"
        "  canvas.getContext('2d').drawImage(image, 0, 0); canvas.toBlob(done, 'image/png');"
        "}))).arrayBuffer())]"
    )
    pixels = Image.open(io.BytesIO(bytes(shown))).convert("RGB")
    served = shapes_server.ask("POST", "/explain?size=512", data, {"Content-Type": "image/png"})
    assert pixels.tobytes() == Image.open(io.BytesIO(served.body)).tobytes()


def test_the_figures_of_the_training_are_shown(visit: Open, shapes_server: Process) -> None:
    told = shapes_server.get("/about").json()["training"]
    page = visit(shapes_server).page
    figures = dict(
        zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True)
    )
    assert float(figures["Accuracy"].removesuffix(" %")) == pytest.approx(100 * told["accuracy"], abs=0.051)
    assert set(figures) == {"Accuracy", "Top-2 accuracy", "Precision", "Recall", "F1"}
    assert "120 test pictures" in page.inner_text("#training")


def test_the_keyboard_alone_is_enough(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server).page
    choosers: list[FileChooser] = []
    page.on(
        "filechooser", lambda chooser: choosers.append(chooser)
    )  # long before the key: the browser must have been told by then
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the picture")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose a picture")).to_be_focused()
    page.keyboard.press("Enter")
    end = time.monotonic() + DEADLINE_SECONDS
    while not choosers and time.monotonic() < end:
        page.wait_for_timeout(20)  # lets playwright hear of it
    data = scenes(33, 1)[0].file()
    choosers[0].set_files({"name": "one.png", "mimeType": "image/png", "buffer": data})
    expect(page.locator("#map")).to_be_visible()
    first = page.get_attribute("#map", "src")
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
        if reached[-1] == "strength":
            page.keyboard.press("Home")
            assert page.evaluate("getComputedStyle(document.getElementById('map')).opacity") == "0"
            page.keyboard.press("End")
        if reached[-1] == "radio":
            break
    assert reached == ["camera", "strength", "radio"]
    page.keyboard.press("ArrowDown")
    expect(page.locator("#map")).not_to_have_attribute("src", str(first))
    second = bars(page)[1][0]
    expect(page.locator("#map")).to_have_attribute("alt", re.compile(re.escape(second)))
    expect(page.get_by_role("status")).to_contain_text(second)
    assert page.get_by_role("radio", checked=True).count() == 1


def test_on_a_phone_the_map_of_a_tapped_class_comes_into_sight(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server, SMALLEST).page
    choose(page, scenes(43, 1)[0].file())
    expect(page.locator("#map")).to_be_visible()
    last = page.get_by_role("radio").last
    last.scroll_into_view_if_needed()
    expect(page.locator("#stage")).not_to_be_in_viewport(ratio=0.9)
    last.click()
    expect(page.locator("#stage")).to_be_in_viewport(ratio=0.9)
    expect(last).to_be_checked()


def test_everything_has_a_name_for_those_who_listen(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server).page
    choose(page, scenes(34, 1)[0].file())
    expect(page.locator("#map")).to_be_visible()
    for label, told, _ in bars(page):
        expect(page.get_by_role("radio", name=f"{label} {told}")).to_have_count(1)
    expect(page.get_by_role("group", name="Choose a class to see what speaks for it")).to_be_visible()
    expect(page.get_by_role("slider", name="Activation map over the picture")).to_be_visible()
    expect(page.get_by_role("img", name="Your picture, picture.png")).to_be_visible()
    expect(page.get_by_role("img", name="The picture under the activation map of")).to_be_visible()
    for name in ("Picture", "Answer", "How well it did in training"):
        expect(page.get_by_role("region", name=name)).to_be_visible()


def test_an_error_is_told_in_the_servers_words_and_goes_with_the_next_picture(
    visit: Open, shapes_server: Process
) -> None:
    opened = visit(shapes_server)
    page = opened.page
    broken = scenes(35, 1)[0].file()[:200]
    choose(page, broken)
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible()
    said = shapes_server.ask("POST", "/classify", broken).error
    assert alert.inner_text().strip().lower() == f"{said.lower()}."
    expect(page.locator("#answer")).to_be_hidden()
    choose(page, b"no picture at all")
    expect(alert).to_contain_text("not a JPEG")
    expect(page.locator("#empty")).to_be_visible()
    choose(page, b"x" * 2_100_000)
    expect(alert).to_contain_text("2000000 bytes")
    choose(page, scenes(35, 1)[0].file())
    expect(page.locator("#map")).to_be_visible()
    expect(alert).to_be_hidden()


def test_a_server_that_is_gone_is_told_and_asked_again(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server).page
    page.route("**/classify*", lambda route: route.abort())
    choose(page, scenes(36, 1)[0].file())
    expect(page.get_by_role("alert")).to_contain_text("did not answer")
    page.unroute("**/classify*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#map")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_token_is_asked_for_and_kept_in_memory_only(visit: Open, serve_shapes: Serve) -> None:
    server = serve_shapes(tokens=True)
    opened = visit(server, knows=False)
    page = opened.page
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    assert field.get_attribute("type") == "password"
    field.press_sequentially("wrong")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("holds no token of this server")
    field.press_sequentially(TOKEN)
    field.press("Enter")
    expect(page.locator("h1")).to_have_text("shapes")
    expect(field).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_hidden()
    choose(page, scenes(37, 1)[0].file())
    expect(page.locator("#map")).to_be_visible()
    kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie, location.href]")
    assert kept == [0, 0, "", f"http://127.0.0.1:{server.port}/"]
    assert TOKEN not in page.content() + "".join(opened.requests)
    assert field.input_value() == ""


def test_the_camera_takes_a_picture(visit: Open, shapes_server: Process) -> None:
    opened = visit(shapes_server, PHONE)
    page = opened.page
    page.get_by_role("button", name="Use the camera").click()
    take = page.get_by_role("button", name="Take the picture")
    expect(take).to_be_focused()
    fits(page, PHONE[0])
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("video")).to_be_hidden()
    expect(page.locator("#empty")).to_be_visible()
    page.get_by_role("button", name="Use the camera").click()
    expect(take).to_be_focused()
    take.click()
    expect(page.locator("#map")).to_be_visible()
    expect(page.locator("video")).to_be_hidden()
    assert page.evaluate("document.querySelector('video').srcObject") is None
    assert opened.errors == []


def test_where_no_camera_may_be_used_the_page_says_why(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server, host=ELSEWHERE).page
    expect(page.get_by_role("button", name="Use the camera")).to_be_hidden()
    expect(page.locator("#camera-note")).to_contain_text("HTTPS")
    choose(page, scenes(38, 1)[0].file())
    expect(page.locator("#map")).to_be_visible()


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(visit: Open, shapes_server: Process, how: str) -> None:
    page = visit(shapes_server).page
    page.evaluate(GIVE, [how, list(scenes(39, 1)[0].file())])
    expect(page.locator("#map")).to_be_visible()


def test_a_drop_without_a_file_says_what_to_do(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server).page
    page.evaluate(GIVE, ["drop", []])
    expect(page.get_by_role("alert")).to_contain_text("no file")


GIVE = """([how, bytes]) => {
  const given = new DataTransfer();
  if (bytes.length) given.items.add(new File([new Uint8Array(bytes)], 'one.png', {type: 'image/png'}));
  const target = document.getElementById('stage');
  target.dispatchEvent(how === 'drop' ? new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true})
    : new ClipboardEvent('paste', {clipboardData: given, bubbles: true, cancelable: true}));
}"""


def test_of_many_classes_the_first_are_shown_and_the_others_on_demand(
    visit: Open, shapes_server: Process
) -> None:
    page = visit(shapes_server, PHONE).page
    many = [
        {"label": f"class {number}", "index": number % 3, "probability": 0.5 / 2**number}
        for number in range(12)
    ]
    page.route("**/classify*", lambda route: route.fulfill(json={"predictions": many}))
    choose(page, scenes(40, 1)[0].file())
    more = page.get_by_role("button", name="Show 7 more")
    expect(more).to_have_attribute("aria-expanded", "false")
    assert len(bars(page)) == 5
    more.press("Enter")
    assert len(bars(page)) == 12
    fewer = page.get_by_role("button", name="Show fewer")
    expect(fewer).to_have_attribute("aria-expanded", "true")
    fewer.press("Enter")
    assert len(bars(page)) == 5


def test_only_the_newest_question_is_answered(visit: Open, shapes_server: Process) -> None:
    page = visit(shapes_server).page
    first, second = scenes(41, 2)
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/classify*", hold_first)
    with page.expect_request("**/classify*"):
        choose(page, first.file(), "first.png")
    choose(page, second.file(), "second.png")
    expect(page.locator("#map")).to_be_visible()
    answer = page.inner_text("#answer")
    held[0].fulfill(json={"predictions": [{"label": "late", "index": 0, "probability": 1.0}]})
    expect(page.get_by_role("img", name="Your picture, second.png")).to_be_visible()
    assert page.inner_text("#answer") == answer


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(visit: Open, shapes_server: Process, scheme: str) -> None:
    page = visit(shapes_server, PHONE, scheme).page
    choose(page, scenes(42, 1)[0].file())
    expect(page.locator("#map")).to_be_visible()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.05) == (scheme == "dark")
    page.evaluate("showAlert('Something went wrong.', true)")
    page.evaluate("document.getElementById('login').hidden = false")
    page.evaluate("Promise.all(document.getAnimations().map(one => one.finished))")
    inks = page.evaluate(INK_ON_GROUND, f"{INKS}, #alert-text, #login-why")
    assert len(inks) > 25
    for ink, under in inks:
        assert contrast(ink, under) >= 4.5, (scheme, ink, under)


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A version without explanations and figures, whose labels are chosen by one who means no good."""
    root = tmp_path_factory.mktemp("hostile")
    write_artifact(root / "lepton" / "model")
    signature = SIGNATURE.model_copy(update={"labels": HOSTILE})
    (root / "lepton" / "model" / "signature.json").write_text(signature.to_json())
    (root / "lepton" / "model" / "metrics.json").write_text('{"test": ')
    process = Process(root)
    try:
        yield process.wait_ready()
    finally:
        process.kill()


@pytest.mark.parametrize("size", [DESKTOP, SMALLEST])
def test_hostile_labels_are_text_and_without_explanations_there_is_no_choice(
    visit: Open, hostile_server: Process, size: tuple[int, int]
) -> None:
    opened = visit(hostile_server, size)
    page = opened.page
    choose(page, picture())
    expect(page.locator("#answer")).to_be_visible()
    assert {label for label, _, _ in bars(page)} == set(HOSTILE)
    assert page.title() == "digits · Lepton"
    assert page.get_by_role("radio").count() == 0
    expect(page.locator("#map")).to_be_hidden()
    expect(page.locator("#training")).to_contain_text("tells no figures")
    fits(page, size[0])
    assert opened.errors == []
    assert hostile_server.lines("Showed no figures of the training")


def test_programs_get_the_list_and_browsers_a_page_that_trusts_nobody(shapes_server: Process) -> None:
    listed = shapes_server.get("/")
    assert listed.headers["content-type"] == "application/json"
    page = shapes_server.ask("GET", "/", headers=HTML)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["vary"] == listed.headers["vary"] == "accept"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert not re.search(r"""\son\w+=|<[^>]*\sstyle=|(src|href)=["']?(https?:|//)""", text)
    assert "shapes" not in text.lower().replace("shape-", "")  # it holds nothing of the model
    head = shapes_server.ask("HEAD", "/", headers=HTML)
    assert (head.status, head.body) == (200, b"")
    assert shapes_server.ask("POST", "/", b"", HTML).status == 405


@pytest.mark.parametrize(
    ("content", "training"),
    [
        (None, None),
        ("[]", None),
        ('{"test": 7}', None),
        ('{"test": {"accuracy": "0.9", "f1": null}}', None),
        ('{"test": {"accuracy": 0.9, "perClass": [{}]}}', {"accuracy": 0.9}),
        (
            '{"test": {"accuracy": 0.9, "perClass": [{"precision": 0.5}, {}, 7, {"precision": "x"}]}}',
            {"accuracy": 0.9, "classPrecision": [0.5, None, None, None]},
        ),
    ],
)
def test_figures_are_read_with_care(root: Path, content: str | None, training: Any) -> None:
    file = root / "lepton" / "model" / "metrics.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    process = Process(root)
    try:
        about = process.wait_ready().get("/about").json()
    finally:
        process.kill()
    assert about["training"] == training
    assert about["model"] == "digits"
    assert about["explanations"] is False
