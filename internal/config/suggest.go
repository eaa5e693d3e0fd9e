package config

import "strings"

// nearest is the candidate that a mistyped key most likely means, or empty.
func nearest(key string, candidates []string) string {
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	if len(key) > 40 {
		return ""
	}
	best, bestDistance := "", 1+max(min(2, len(key)/2), len(key)/3) // two edits are two letters swapped
	for _, c := range candidates {
		if d := editDistance(key, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j+1]+1, row[j]+1, diagonal+1)
			if a[i] == b[j] {
				next = min(next, diagonal)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
