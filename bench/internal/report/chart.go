package report

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// chart is horizontal bars in groups, all to one scale. It is drawn here since no more than that is needed.
type chart struct {
	file   string // its name in the directory of results
	title  string
	unit   string // and what is better
	digits int
	groups []group
}

type group struct {
	title string // empty: none
	bars  []bar
}

type bar struct {
	label string
	value float64
	own   bool // drawn in the strong colour
}

// Sizes in pixels.
const (
	chartWidth = 720
	labelWidth = 190 // the labels end here, the bars begin behind
	valueWidth = 70
	barHeight  = 16
	barStep    = 22
	headHeight = 56
	groupSpace = 26
)

// svg draws the chart. It needs no fonts or scripts, and has its own background, for dark and light pages.
func (c chart) svg() string {
	var body strings.Builder
	y := headHeight
	longest := c.longest()
	for _, g := range c.groups {
		if g.title != "" {
			text(&body, mark{x: 16, y: y + 12, class: "group", text: g.title})
			y += groupSpace
		}
		for _, b := range g.bars {
			c.draw(&body, b, y, longest)
			y += barStep
		}
		y += barStep / 2
	}
	height := y + 8
	var head strings.Builder
	fmt.Fprintf(&head, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", chartWidth, height, chartWidth, height)
	fmt.Fprintf(&head, "<title>%s</title>\n", escape(c.title+": "+c.unit))
	head.WriteString(`<style>text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:16px;font-weight:600}.unit{fill:#57606a}.group{font-weight:600}.label{text-anchor:end}</style>` + "\n")
	fmt.Fprintf(&head, `<rect width="%d" height="%d" rx="6" fill="#ffffff"/>`+"\n", chartWidth, height)
	text(&head, mark{x: 16, y: 24, class: "title", text: c.title})
	text(&head, mark{x: 16, y: 44, class: "unit", text: c.unit})
	return head.String() + body.String() + "</svg>\n"
}

func (c chart) draw(body *strings.Builder, b bar, y int, longest float64) {
	width := int(b.value / longest * (chartWidth - labelWidth - valueWidth - 24))
	fill := "#8c959f"
	if b.own {
		fill = "#0969da"
	}
	text(body, mark{x: labelWidth, y: y + 13, class: "label", text: b.label})
	fmt.Fprintf(body, `<rect x="%d" y="%d" width="%d" height="%d" rx="2" fill="%s"/>`+"\n", labelWidth+8, y, max(width, 1), barHeight, fill)
	text(body, mark{x: labelWidth + 14 + width, y: y + 13, class: "value", text: strconv.FormatFloat(b.value, 'f', c.digits, 64)})
}

// longest is the value that fills the width.
func (c chart) longest() float64 {
	longest := 0.0
	for _, g := range c.groups {
		for _, b := range g.bars {
			longest = max(longest, b.value)
		}
	}
	if longest == 0 {
		return 1
	}
	return longest
}

// mark is one piece of text.
type mark struct {
	x, y        int
	class, text string
}

func text(body *strings.Builder, m mark) {
	fmt.Fprintf(body, `<text x="%d" y="%d" class="%s">%s</text>`+"\n", m.x, m.y, m.class, escape(m.text))
}

func escape(text string) string {
	var escaped strings.Builder
	// A strings.Builder never fails.
	_ = xml.EscapeText(&escaped, []byte(text))
	return escaped.String()
}
