from __future__ import annotations

from obsdimg.response.script import asked_by, changes

SCRIPT = r"""
# ask "a comment asks nothing?"
ask_until() {
	ask "$1 the machinery asks nothing" "$2"
}
first() {
	local _q="Begin with (A)" _d
	((x)) && _q="$_q, (B)"
	ask "$_q or (E)dit?" "$_d"
	ask_until "Address for $_if? (or 'none')" \
	"${_mask:-255.255.255.0}"
	if ! ask_yn "Time is '$(TZ=$_tz date -r "$(http_time)")'. Go on?" yes; then
		ask_which "$_dev partition" 'holds the sets' '$(list_of "$_dev")' done
	fi
	x)	ask_password "Say \"it\"?";;
}
second() {
	ask "$_q or (E)dit?" no		# another function, another _q
	_autorespond "$_prompt (address)" none
	task "no call"; tell ask "me"
}
"""


def test_the_calls_of_a_script_are_read_with_what_the_shell_fills_in_left_open() -> None:
    assert [(q.text, q.default, q.function, q.line) for q in asked_by(SCRIPT)] == [
        ("Begin with (A) or (E)dit?", "{}", "first", 9),
        ("Begin with (A), (B) or (E)dit?", "{}", "first", 9),
        ("Address for {}? (or 'none')", "{}", "first", 10),
        ("Time is '{}'. Go on?", "yes", "first", 12),
        ("Which {} partition holds the sets?", "", "first", 13),
        ('Say "it"?', "", "first", 15),
        ("{} or (E)dit?", "no", "second", 18),
        ("{} (address)", "none", "second", 19),
        ("me", "", "second", 20),
    ]


def test_what_is_new_and_what_is_gone_counts_by_the_words() -> None:
    before = asked_by('a() {\n\task "Old?"\n\task "Stays?" x\n}\n')
    after = asked_by('a() {\n\task "Stays?" y\n\task "Late?"\n}\nb() {\n\task "Late?"\n}\n')
    new, gone = changes(before, after)
    assert [(q.text, q.line) for q in new] == [("Late?", 3)]
    assert [q.text for q in gone] == ["Old?"]
    assert changes(after, after) == ((), ())


def test_a_script_made_to_cost_time_is_read_at_once() -> None:
    nested = 'ask "$(' * 100_000
    assigned = '_q="ab"\n' + '_q="$_q$_q"\n' * 200 + 'ask "$_q$_q$_q"\n'
    assert len(asked_by(nested)) < 1000
    assert len(asked_by("f() {\n" + assigned)) <= 8
    assert asked_by("\\\n" * 100_000) == ()
