// Runs a query that is ended from outside, and prints how pgjdbc shows that.
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.Properties;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class RunPgjdbc {
    public static void main(String[] args) throws Exception {
        var env = System.getenv();
        var properties = new Properties();
        properties.setProperty("user", "postgres");
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", env.get("ROOT"));
        properties.setProperty("sslcert", env.get("CERT"));
        properties.setProperty("sslkey", env.get("KEY_DER"));
        try (Connection connection = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + env.get("PORT") + "/postgres", properties)) {
            try {
                connection.createStatement().execute(env.get("SQL"));
            } catch (PSQLException e) {
                ServerErrorMessage m = e.getServerErrorMessage();
                if (m == null) {
                    throw e;
                }
                System.out.printf("{\"severity\": %s, \"code\": %s, \"message\": %s, \"detail\": %s, \"hint\": %s, \"closed\": %b}%n",
                    quote(m.getSeverity()), quote(m.getSQLState()), quote(m.getMessage()), quote(m.getDetail()), quote(m.getHint()), connection.isClosed());
            }
        }
    }

    static String quote(String text) {
        return text == null ? "null" : '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
