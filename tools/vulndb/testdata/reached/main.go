// Reached calls what is known to be vulnerable (GO-2021-0113: language.Parse of x/text 0.3.5 panics), so that scripts/vuln.sh
// sees whether its check works before it believes that nothing was found. Never built into anything.
package main

import (
	"fmt"
	"os"

	"golang.org/x/text/language"
)

func main() {
	fmt.Println(language.Parse(os.Args[1]))
}
