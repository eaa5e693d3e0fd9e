// Connects by each JDBC URL of its arguments, and prints a line for each: what a query answers, or why there is none.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;

public class Connect {
    public static void main(String[] urls) throws Exception {
        String query = System.getenv().getOrDefault("QUERY", "select 'answered'");
        for (String url : urls) {
            try (Connection connection = DriverManager.getConnection(url);
                 ResultSet rows = connection.createStatement().executeQuery(query)) {
                rows.next();
                System.out.println(rows.getString(1));
            } catch (SQLException e) {
                System.out.println(e.toString().replaceAll("\\s+", " "));
            }
        }
    }
}
