"""What testbed/documents-run sees of a page: commands that nobody runs must not hide."""

import importlib.machinery
import importlib.util
import sys
import unittest

from table import CHECKOUT


def documents_run():
    spec = importlib.util.spec_from_loader(
        "documents_run", importlib.machinery.SourceFileLoader("documents_run", str(CHECKOUT / "testbed/documents-run")))
    module = importlib.util.module_from_spec(spec)
    sys.modules["documents_run"] = module
    spec.loader.exec_module(module)
    return module


class Unmarked(unittest.TestCase):
    def lines(self, text):
        return list(documents_run().unmarked(text))

    def test_names_fences_without_a_mark_or_with_an_unknown_one(self):
        self.assertEqual(self.lines("a\n\n```sh\nliverank up\n```\n"), [3])
        self.assertEqual(self.lines("<!-- runs: elsewhere -->\n```sh\nliverank up\n```\n"), [2])
        self.assertEqual(self.lines("<!-- runs: up -->\n```sh\n\n    liverank up\n```\n<!-- not run: long -->\n```sh\nx\n```\n"), [])

    def test_names_commands_that_are_indented(self):
        self.assertEqual(self.lines("    liverank up\n"), [1])
        self.assertEqual(self.lines("a:\n\n    liverank up\n    liverank top\n\nb\n\n\tliverank top\n"), [3, 8])
        self.assertEqual(self.lines("- an item\n\nplain\n\n    liverank up\n"), [5])

    def test_leaves_text_of_items_and_of_paragraphs_alone(self):
        self.assertEqual(self.lines("1. an item\n\n    more of it\n\n    and more\n"), [])
        self.assertEqual(self.lines("a paragraph\n    that goes on\n"), [])
        self.assertEqual(self.lines("```text\n\n    as it is\n```\n"), [])

    def test_names_shells_by_other_names(self):
        self.assertEqual(self.lines("a\n\n```console\n$ liverank up\n```\n"), [3])


if __name__ == "__main__":
    unittest.main()
