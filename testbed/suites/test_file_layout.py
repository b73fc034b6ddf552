"""The check of files' lengths and circles, on made-up crates."""

import importlib.machinery
import importlib.util
import unittest

from table import CHECKOUT

LOADER = importlib.machinery.SourceFileLoader("file_layout", str(CHECKOUT / "testbed/file-layout"))
layout = importlib.util.module_from_spec(importlib.util.spec_from_loader(LOADER.name, LOADER))
LOADER.exec_module(layout)


def circles(**texts):
    modules = {() if name == "lib" else tuple(name.split("_in_")[::-1]): text for name, text in texts.items()}
    found = layout.circles(layout.Crate(modules).edges())
    return [sorted("/".join(module) for module in circle) for circle in found]


class Circles(unittest.TestCase):
    def test_two_files_that_use_each_other_are_a_circle(self):
        self.assertEqual(circles(a="use crate::b::B;", b="use crate::{Other, a::{A, C}};", c="use crate::a::A;"), [["a", "b"]])
        self.assertEqual(circles(a="use crate::b::B;", b="fn f() -> crate::a::A {}"), [["a", "b"]])
        self.assertEqual(circles(a="use crate::b::B;", b="// use crate::a::A;\nconst TEXT: &str = \"crate::a::A\";"), [])

    def test_an_item_that_is_passed_on_counts_where_it_is_defined(self):
        face = "mod kind; pub use kind::Kind; use crate::b::B;"
        self.assertEqual(circles(a=face, kind_in_a="", b="use crate::a::Kind;"), [])
        self.assertEqual(circles(a=face, kind_in_a="use crate::b::B;", b="use crate::a::Kind;"), [["a/kind", "b"]])
        self.assertEqual(circles(lib="pub use a::A;", a="use crate::b::B;", b="use crate::A;"), [["a", "b"]])

    def test_a_part_may_use_the_whole_and_not_its_neighbour_in_a_circle(self):
        self.assertEqual(circles(a="mod x; use x::X;", x_in_a="use super::Whole;"), [])
        self.assertEqual(circles(a="", x_in_a="use super::y::Y;", y_in_a="use super::x;"), [["a/x", "a/y"]])


class Lengths(unittest.TestCase):
    def test_blank_lines_comments_and_tests_are_not_counted(self):
        text = "//! What it is.\n\nfn f() {\n    // why\n}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n"
        self.assertEqual(layout.lines_of_code(layout.TEST_MODULE.sub("", text), ".rs"), 2)
        self.assertEqual(layout.lines_of_code("# why\n\nx = 1  # so\n", ".py"), 1)


if __name__ == "__main__":
    unittest.main()
