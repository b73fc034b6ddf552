"""What the measurements draw."""

import sys
import unittest
import xml.etree.ElementTree as ElementTree

from table import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "bench"))
import plot  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


class Plots(unittest.TestCase):
    def drawn(self, *panels):
        return ElementTree.fromstring(plot.svg("a title & more", panels))

    def test_each_sample_is_a_dot_and_each_median_a_bar(self):
        root = self.drawn(plot.Panel("rates", {"one <of> them": [1.0, 3.0, 2.0], "another": [4.0]}))
        self.assertEqual(len(root.findall(f"{SVG}circle")), 4)
        widths = [float(bar.get("width")) for bar in root.findall(f"{SVG}rect[@class='bar']")]
        self.assertAlmostEqual(widths[0] / widths[1], 2 / 4, places=2)
        self.assertIn("one <of> them", [text.text for text in root.findall(f"{SVG}text")])

    def test_a_bound_is_a_line_inside_of_the_picture_even_beyond_all_samples(self):
        (line,) = self.drawn(plot.Panel("times", {"one": [1.0]}, bound=50.0, bound_name="50 ms")).findall(f"{SVG}line")
        self.assertLessEqual(float(line.get("x1")), plot.WIDTH)

    def test_panels_follow_each_other_and_empty_ones_are_left_out(self):
        root = self.drawn(plot.Panel("first", {"a": [0.0]}), plot.Panel("none", {}), plot.Panel("second", {"b": [5.0]}))
        tops = {text.text: float(text.get("y")) for text in root.findall(f"{SVG}text")}
        self.assertNotIn("none", tops)
        self.assertLess(tops["a"], tops["second"])


if __name__ == "__main__":
    unittest.main()
