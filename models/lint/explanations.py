"""Descriptions of the rules: for `models check --explain`, and for the page of the documentation."""

from graftdet.models.lint.rules import RULES
from graftdet.utils.errors import UserError, did_you_mean


def explain(rule_id: str) -> str:
    """Describe a rule, as `models check --explain` prints it.

    Args:
        rule_id: id of the rule.

    Returns:
        Several lines of text: summary, example, fix.

    Raises:
        UserError: there is no such rule.
    """
    if rule_id not in RULES:
        hint = did_you_mean(rule_id, RULES) or f"; expected one of {', '.join(RULES)}"
        raise UserError(f"--explain {rule_id}: no such rule{hint}")
    rule = RULES[rule_id]
    example, fix = (text.replace("\n", "\n    ") or "(no row)" for text in (rule.bad, rule.good))
    origin = f"graftdet.models.{rule.origin}"
    header = f"{rule.id} ({rule.severity})\n{rule.summary}"
    return f"{header}\n\n  wrong:\n    {example}\n  right:\n    {fix}\n\nfound by {origin}"


def rules_markdown() -> str:
    """The table of rules as a page of the documentation (Markdown)."""
    lines = ["| rule | severity | meaning |", "|---|---|---|"]
    lines += [f"| [`{rule.id}`](#{rule.id}) | {rule.severity} | {rule.summary} |" for rule in RULES.values()]
    for rule in RULES.values():
        lines += [
            "",
            f"## {rule.id}",
            "",
            rule.summary,
            "",
            "Wrong:",
            "",
            "```yaml",
            rule.bad.strip() or "# (no row)",
            "```",
        ]
        lines += ["", "Right:", "", "```yaml", rule.good.strip(), "```"]
    return "\n".join(lines) + "\n"
