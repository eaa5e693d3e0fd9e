package control

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// recipe is how a block of docs/clients.md is run. It prints the name of the user that it has come in as.
type recipe struct {
	file    string   // that the block is written to
	command []string // in the directory of the file
	probe   []string // succeeds where the command can be run; nil: everywhere
	needs   string   // what is missing where the probe fails
	before  func(t *testing.T, k *kitchen)
}

const (
	python     = "/usr/bin/python3" // the one that Debian's packages are for
	djangoMain = `import django; django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("select current_user")
    print(cursor.fetchone()[0])`
	activeRecordMain = `ActiveRecord::Base.establish_connection(YAML.load_file("database.yml")["production"])
puts ActiveRecord::Base.connection.select_value("select current_user")`
)

var recipes = map[string]recipe{
	"psql":                     {file: "recipe.sh", command: []string{"sh", "recipe.sh"}},
	"psql with variables":      {file: "recipe.sh", command: []string{"sh", "recipe.sh"}},
	"psycopg":                  pythonRecipe("psycopg"),
	"psycopg2":                 pythonRecipe("psycopg2"),
	"asyncpg":                  pythonRecipe("asyncpg"),
	"SQLAlchemy":               pythonRecipe("sqlalchemy"),
	"Django":                   {file: "settings.py", command: []string{"env", "DJANGO_SETTINGS_MODULE=settings", python, "-c", djangoMain}, probe: []string{python, "-c", "import django, psycopg2"}, needs: "Debian's python3-django and python3-psycopg2"},
	"pgx":                      {file: "main.go", command: []string{"sh", "-c", `dir=$PWD && cd "$TESTDATA" && HOME=$BUILD_HOME exec go run "$dir/main.go"`}},
	"pgjdbc":                   javaRecipe,
	"pgjdbc, PKCS 12":          javaRecipe,
	"ruby-pg":                  {file: "recipe.rb", command: []string{"/usr/bin/ruby", "recipe.rb"}, probe: []string{"/usr/bin/ruby", "-e", `require "pg"`}, needs: "Debian's ruby-pg"},
	"ActiveRecord":             {file: "database.yml", command: []string{"/usr/bin/ruby", "-ryaml", "-ractive_record", "-e", activeRecordMain}, probe: []string{"/usr/bin/ruby", "-e", `require "pg"; require "active_record"`}, needs: "Debian's ruby-pg and ruby-activerecord"},
	"node-postgres":            nodeRecipe,
	"node-postgres with a URL": nodeRecipe,
	"PHP, pgsql":               {file: "recipe.php", command: []string{"php", "recipe.php"}, probe: []string{"php", "-r", "exit(extension_loaded('pgsql') ? 0 : 1);"}, needs: "Debian's php-cli and php-pgsql"},
	"PHP, PDO":                 {file: "recipe.php", command: []string{"php", "recipe.php"}, probe: []string{"php", "-r", "exit(extension_loaded('pdo_pgsql') ? 0 : 1);"}, needs: "Debian's php-cli and php-pgsql"},
	"Perl":                     {file: "recipe.pl", command: []string{"/usr/bin/perl", "recipe.pl"}, probe: []string{"/usr/bin/perl", "-MDBD::Pg", "-e", "1"}, needs: "Debian's libdbd-pg-perl"},
	"ODBC":                     {file: "connection", command: []string{"sh", "-c", `echo 'select current_user' | isql -b -x0x20 -k "$(cat connection)"`}, probe: []string{"sh", "-c", "command -v isql && odbcinst -q -d -n 'PostgreSQL Unicode'"}, needs: "Debian's unixodbc and odbc-postgresql"},
	"PgBouncer":                {file: "pgbouncer.ini", command: []string{"sh", "-c", `psql -h "$PWD" -p 6432 -U app -d app -Atc 'select current_user'`}, probe: []string{"sh", "-c", "PATH=$PATH:/usr/sbin command -v pgbouncer"}, needs: "Debian's pgbouncer", before: bouncerRecipe},
	"curl":                     {file: "recipe.sh", command: []string{"sh", "-c", `sh recipe.sh | grep -o '"name":"shop"' && echo app`}, probe: []string{"curl", "--version"}, needs: "curl", before: curlRecipe},
}

var javaRecipe = recipe{file: "url", command: []string{"sh", "-c", `QUERY="select current_user" exec java -cp ` + pgjdbc + ` "$TESTDATA/drivers/Connect.java" "$(cat url)"`},
	probe: []string{"sh", "-c", "command -v javac && test -e " + pgjdbc}, needs: "a JDK and Debian's libpostgresql-jdbc-java"}

func pythonRecipe(module string) recipe {
	return recipe{file: "recipe.py", command: []string{python, "recipe.py"}, probe: []string{python, "-c", "import " + module}, needs: "Debian's python3-" + module}
}

var nodeRecipe = recipe{file: "recipe.js", command: []string{"node", "recipe.js"}, probe: []string{"node", "-e", "require('pg')"}, needs: "node, and node-postgres: scripts/fetch-drivers.sh fetches it"}

// kitchen is where a recipe is run.
type kitchen struct {
	*plane
	front *front
	app   string // the directory with the client's files, /etc/app of the document
	dir   string // of the recipe alone, with a short path
	env   []string
}

var recipeBlock = regexp.MustCompile("(?m)^<!-- recipe: (.*) -->\n```[a-z]*\n((?s:.*?))^```$")

// Every recipe of the document lets its program in, with the files as they were downloaded.
func TestRecipesOfTheDocumentsLetClientsIn(t *testing.T) {
	t.Parallel()
	appDatabase(t)
	p := newPlane(t)
	f := p.front(t, "shop", "default")
	app := t.TempDir()
	p.do(t, "certificates", "download", "shop", "--dir", app)
	p.do(t, "certificates", "download", "shop", "--dir", app, "--format", "pk8")
	writeFile(t, filepath.Join(app, "password"), "secret")
	p.do(t, "certificates", "download", "shop", "--dir", app, "--format", "p12", "--password-file", filepath.Join(app, "password"))
	writeFile(t, filepath.Join(app, "control-ca.pem"), readFile(t, filepath.Join(p.Dir, "control-ca.pem")))
	line, _, _ := strings.Cut(p.do(t, "url", "shop", "--user", "app", "--dbname", "app", "--dir", app), "\n")
	url := strings.TrimSuffix(strings.TrimPrefix(line, "DATABASE_URL='"), "'")

	document := readFile(t, "../../docs/clients.md")
	said := strings.NewReplacer("localhost:"+f.Port, "db.example.com:5432", app, "/etc/app").Replace(line)
	if !strings.Contains(document, "\n"+said+"\n") {
		t.Errorf("the document does not show what pgmtls url prints: %s", said)
	}
	here := strings.NewReplacer("db.example.com", "localhost", "5432", f.Port, "/etc/app", app, "https://pgmtls.example.com:9816", p.url(t))
	written := map[string]string{}
	for _, block := range recipeBlock.FindAllStringSubmatch(document, -1) {
		written[block[1]] = here.Replace(block[2])
		if _, known := recipes[block[1]]; !known {
			t.Errorf("nothing runs the recipe %q", block[1])
		}
	}
	modules, err := filepath.Abs(nodeModules)
	if err != nil {
		t.Fatal(err)
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range recipes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := written[name]
			if text == "" {
				t.Fatal("the document has no such recipe")
			}
			k := &kitchen{plane: p, front: f, app: app, dir: shortDir(t)}
			k.env = append(os.Environ(), "DATABASE_URL="+url, "HOME="+k.dir, "NODE_PATH="+modules, "TESTDATA="+testdata, "BUILD_HOME="+os.Getenv("HOME"))
			if output, err := k.run(t, r.probe); err != nil {
				t.Skipf("this needs %s (%v: %s)", r.needs, err, output)
			}
			writeFile(t, filepath.Join(k.dir, r.file), text)
			if r.before != nil {
				r.before(t, k)
			}
			output, err := k.run(t, r.command)
			if lines := strings.Fields(output); err != nil || len(lines) == 0 || lines[len(lines)-1] != "app" {
				t.Errorf("it ends with %v:\n%s\nthe recipe:\n%s", err, output, text)
			}
		})
	}
}

var appOnce sync.Once

// appDatabase makes the role and the database of the documents, once for all tests.
func appDatabase(t *testing.T) {
	t.Helper()
	server := postgres.Server(t)
	appOnce.Do(func() {
		server.Query(t, "create role app login")
		server.Query(t, "create database app owner app")
	})
}

// run runs a command in the recipe's directory, and gives what it prints.
func (k *kitchen) run(t *testing.T, args []string) (output string, err error) {
	t.Helper()
	if args == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience) // Java and Go compile first
	defer cancel()
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir, command.Env = k.dir, k.env
	text, err := command.CombinedOutput()
	return string(text), err
}

// curlRecipe writes the token where curl looks for it.
func curlRecipe(t *testing.T, k *kitchen) {
	host := strings.Split(strings.TrimPrefix(k.url(t), "https://"), ":")[0]
	writeFile(t, filepath.Join(k.dir, ".netrc"), "machine "+host+" login anybody password "+strings.TrimSpace(readFile(t, filepath.Join(k.Dir, "admin.token")))+"\n")
}
